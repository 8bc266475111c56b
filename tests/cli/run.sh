#!/bin/sh
# The command line as a user meets it: every script tests/cli/NAME.sh runs in an empty folder; what it prints must be
# NAME.out, and on stderr NAME.err (nothing when that file does not exist).
#
# usage: run.sh [NAME...]; with CORRAL_CLI_ACCEPT=1 the outputs become the expectation instead. CORRAL is the program.
# Scripts begin with the functions of lib.sh. They normalise what may vary (times, paths, numbers of threads).
set -u
src=$(cd "${srcdir:-.}" && pwd)
: "${CORRAL:=./corral}"
[ -x "$CORRAL" ] || { echo "no program $CORRAL in this build"; exit 77; }
CORRAL=$(cd "$(dirname "$CORRAL")" && pwd)/$(basename "$CORRAL")
GOLDEN=$src/tests/golden
export CORRAL GOLDEN
top=$(mktemp -d "${TMPDIR:-/tmp}/corral-cli.XXXXXX") || exit 99
trap 'rm -rf "$top"' EXIT
rc=0
n=0
[ $# -gt 0 ] || set -- $(cd "$src/tests/cli" && ls | sed -n 's/\.sh$//p' | grep -vE '^(run|lib)$')
for name; do
    dir=$src/tests/cli
    mkdir "$top/$name"
    (cd "$top/$name" && cat "$dir/lib.sh" "$dir/$name.sh" >../script && sh ../script >../out 2>../err </dev/null)
    sed 's/partial-[0-9]*/partial-PID/' "$top/err" >"$top/e" && mv "$top/e" "$top/err"
    if [ -n "${CORRAL_CLI_ACCEPT:-}" ]; then
        cp "$top/out" "$dir/$name.out"
        if [ -s "$top/err" ]; then cp "$top/err" "$dir/$name.err"; else rm -f "$dir/$name.err"; fi
    fi
    want_err=$dir/$name.err
    [ -f "$want_err" ] || want_err=/dev/null
    if diff -u "$dir/$name.out" "$top/out" && diff -u "$want_err" "$top/err"; then
        echo "ok   $name"
    else
        echo "FAIL $name"
        rc=1
    fi
    n=$((n + 1))
done
[ "$n" -gt 0 ] || { echo "no scripts"; exit 1; }
exit $rc
