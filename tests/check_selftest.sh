#!/bin/sh
# The style checks see what they are for: each is run on a small tree that is right and on the same tree with one fault.
set -u
here=${srcdir:-.}/tests
here=$(cd "$here" && pwd) || exit 99
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
bad=0
n=0

fresh()
{
    rm -rf "$tmp/t"
    mkdir -p "$tmp/t/src/base" "$tmp/t/src/text" "$tmp/t/src/model" "$tmp/t/quant" "$tmp/t/man" "$tmp/t/tests"
    cd "$tmp/t" || exit 99
    printf '#ifndef A_H\n#define A_H\n#include <stddef.h>\nsize_t a(void);\n#endif\n' >src/base/a.h
    printf '#include "base/a.h"\nsize_t a(void)\n{\n    return 0;\n}\n' >src/base/a.c
    printf '#ifndef Q_H\n#define Q_H\n#include "base/a.h"\n#endif\n' >quant/q.h
    printf '#include "quant/q.h"\n' >src/text/t.c
    printf '#include <omp.h>\n' >src/base/team.c
    printf '\\fB\\-\\-json\\fR\n' >man/corral-info.1
    printf '.TH\n' >man/corral.1
    {
        echo '#!/bin/sh'
        echo 'case $* in'
        echo 'help) echo "  info  show" ;;'
        echo '"help info") echo "  --json  as JSON" ;;'
        echo 'esac'
    } >corral
    chmod +x corral
}

run() # check
{
    CORRAL=$tmp/t/corral CPPFLAGS="-I$tmp/t -I$tmp/t/src" CFLAGS='-Wall -Wextra' "$here/$1" "$tmp/t" >"$tmp/out" 2>&1
}

sees() # check, fault; a command that brings the fault on stdin
{
    n=$((n + 1))
    fresh
    run "$1" || { echo "$1 fails on a tree without fault:"; cat "$tmp/out"; bad=1; return; }
    sh -e || { echo "$1: cannot bring about: $2"; bad=1; return; }
    if run "$1"; then echo "$1 does not see: $2"; bad=1; else echo "ok $1: $2"; fi
}

sees check_includes.sh "an upward include" <<'X'
echo '#include "quant/q.h"' >>src/base/a.h
X
sees check_includes.sh "a sideways include" <<'X'
echo '#include "model/m.h"' >>src/text/t.c
X
sees check_includes.sh "a foreign library beside its door" <<'X'
echo '# include <omp.h>' >>src/base/a.c
X
sees check_includes.sh "an include not written from the root" <<'X'
echo '#include "a.h"' >>src/base/a.c
X
sees check_includes.sh "a detour" <<'X'
echo '#include "base/../quant/q.h"' >>src/base/a.c
X
sees check_includes.sh "intrinsics outside simd/" <<'X'
echo '#include <immintrin.h>' >>src/text/t.c
X
sees check_headers.sh "a header that needs another first" <<'X'
printf '#ifndef B_H\n#define B_H\nsize_t b(void);\n#endif\n' >src/base/b.h
X
sees check_headers.sh "a header without a guard" <<'X'
printf 'struct b { int x; };\n' >src/base/b.h
X
sees check_leftovers.sh "a marker" <<'X'
printf '/* TO''DO: later */\n' >>src/base/a.c
X
sees check_leftovers.sh "a conflict marker" <<'X'
printf '<<<''<<<< HEAD\n' >>src/base/a.c
X
sees check_leftovers.sh "a tab" <<'X'
printf '\tint x;\n' >>src/base/a.c
X
sees check_leftovers.sh "a long line" <<'X'
printf '/* %0130d */\n' 1 >>src/base/a.c
X
sees check_man.sh "a command without a page" <<'X'
rm man/corral-info.1
X
sees check_man.sh "an option without a line" <<'X'
echo 'echo "  --tensors  list" >/dev/null; case $* in "help info") echo "  --tensors  list";; esac' >>corral
X
sees check_man.sh "an option whose name only begins another's" <<'X'
sed -i 's/json/json-lines/' man/corral-info.1
X
sees check_man.sh "a page without a command" <<'X'
cp man/corral-info.1 man/corral-verify.1
X
echo "$n faults tried"
[ "$bad" = 0 ]
