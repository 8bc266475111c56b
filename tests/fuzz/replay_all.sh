#!/bin/sh
# Every fuzz harness runs on its committed corpus: tests/fuzz/fuzz_<name> on tests/fuzz/corpus/<name>/. A harness
# without a corpus and a corpus without a harness are failures; an input that crashes the harness is named.
set -u
corpus=$srcdir/tests/fuzz/corpus
[ -n "${FUZZERS:-}" ] || { echo "no fuzz harness in this version"; exit 77; }
rc=0
names=
for prog in $FUZZERS; do
    name=${prog##*/fuzz_}
    name=${name%.exe}
    names="$names $name"
    n=0
    for input in "$corpus/$name"/*; do
        [ -f "$input" ] && n=$((n + 1))
    done
    if [ "$n" = 0 ]; then echo "FAIL $name: no corpus in tests/fuzz/corpus/$name"; rc=1; continue; fi
    if "$top_builddir/$prog" "$corpus/$name"/* >"$top_builddir/tests/fuzz/$name.out" 2>&1; then
        echo "ok   $name: $n inputs"
    else
        echo "FAIL $name:"
        tail -40 "$top_builddir/tests/fuzz/$name.out"
        rc=1
    fi
    rm -f "$top_builddir/tests/fuzz/$name.out"
done
for dir in "$corpus"/*/; do
    [ -d "$dir" ] || continue
    name=$(basename "$dir")
    case " $names " in *" $name "*) ;; *) echo "FAIL corpus/$name has no harness fuzz_$name"; rc=1 ;; esac
done
exit $rc
