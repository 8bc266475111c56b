#!/bin/sh
# Every header compiles as the only include, twice over, without a warning: with the compiler of this build, and with
# clang and gcc when they are there. ISA_CFLAGS, "level:flags;...", says what headers in simd/<level>/ need.
#
# usage: check_headers.sh [ROOT]; CC, CPPFLAGS and CFLAGS come from the makefile.
set -u
root=${1:-${srcdir:-.}}
: "${CC:=cc}" "${CPPFLAGS:=-I$root -I$root/src}" "${CFLAGS:=-Wall -Wextra}" "${ISA_CFLAGS:=}"
cflags=$(printf '%s\n' "$CFLAGS" | sed -E 's/-fsanitize[^ ]*|-fno-sanitize[^ ]*//g')
machine=$(uname -m)
others=
for c in gcc clang; do
    case " $CC " in *"$c "*) continue ;; esac
    command -v $c >/dev/null 2>&1 && others="$others $c"
done

bad=0
n=0
report() { echo "$1"; bad=$((bad + 1)); }

headers=$(cd "$root" && for d in src simd quant convert bench tests; do [ -d $d ] && find $d -name '*.h'; done | LC_ALL=C sort)
for header in $headers; do
    n=$((n + 1))
    isa=
    case $header in
    simd/x86.h) case $machine in x86_64 | i?86) ;; *) continue ;; esac ;; # for another machine than this
    simd/arm.h) case $machine in aarch64 | arm64) ;; *) continue ;; esac ;;
    simd/*/*)
        level=${header#simd/}
        level=${level%%/*}
        isa=$(printf '%s\n' "$ISA_CFLAGS" | tr ';' '\n' | sed -n "s/^$level://p")
        [ -n "$isa" ] || continue # this compiler does not build the level
        ;;
    esac
    name=${header#src/}
    text=$(printf '#include "%s"\n#include "%s"\nextern int header_alone;\n' "$name" "$name")
    printf '%s\n' "$text" | $CC $CPPFLAGS $cflags $isa -Werror -fsyntax-only -x c - || report "$header: $CC"
    for c in $others; do # without OpenMP and the like: headers need none of it
        printf '%s\n' "$text" | $c $CPPFLAGS -Wall -Wextra $isa -Werror -fsyntax-only -x c - || report "$header: $c"
    done
done
[ "$n" -gt 0 ] || report "no header found in $root"
echo "$n headers, $bad failures"
[ "$bad" = 0 ]
