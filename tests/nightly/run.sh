#!/bin/sh
# The nightly script on the demo checkpoint: a first run, three clean reruns that must stay silent, four damaged
# conversions that must be caught, a clean run after each. Part of check-long.
set -u
[ -n "${CORRAL_TEST_LONG:-}" ] || { echo "a test of check-long"; exit 77; }
command -v python3 >/dev/null 2>&1 || { echo "no python3 to damage a checkpoint with"; exit 77; }
command -v flock >/dev/null 2>&1 || { echo "no flock"; exit 77; }
src=$(cd "${srcdir:-.}" && pwd)
: "${CORRAL:=./corral}"
CORRAL=$(cd "$(dirname "$CORRAL")" && pwd)/$(basename "$CORRAL")
export CORRAL
tmp=$(mktemp -d "${TMPDIR:-/tmp}/corral-nightly.XXXXXX") || exit 99
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 99
bad=0

cp -r "$src/demo/model" clean && chmod -R u+w clean
cp "$src"/demo/heldout/*.jsonl "$src/examples/suite.json" .
head -n 60 text.jsonl >some.jsonl
"$CORRAL" convert clean bf16.crl --recipe bf16 --quiet >/dev/null || exit 99
"$CORRAL" eval reference bf16.crl --text some.jsonl --output reference.crr --quiet >/dev/null || exit 99

night() # folder; what it exits with
{
    CHECKPOINT=$1 SUITE=suite.json WORK=work RECIPE=q4 sh "$src/examples/nightly.sh" >out 2>err
}

must() # what, wanted exit code; the code it gave
{
    if [ "$3" = "$2" ]; then echo "ok   $1: exit $3"
    else
        echo "FAIL $1: exit $3, not $2"
        tail -n 15 out; cat err
        bad=1
    fi
}

night clean; must "first run" 0 $?
for n in 1 2 3; do night clean; must "clean rerun $n" 0 $?; done
grep -q 'WORSE\|REGRESSION' out && { echo "FAIL: a clean rerun differs"; cat out; bad=1; }
for kind in expert router swap rope; do
    rm -rf damaged && cp -r clean damaged && python3 "$src/tests/nightly/damage.py" damaged $kind || exit 99
    night damaged
    rc=$?
    # another configuration is refused by the reference's hash, which fails the run; the others are regressions
    if [ $kind = rope ]; then must "damage: $kind" 1 $rc; else must "damage: $kind" 3 $rc; fi
    grep -E '^REGRESSION|note:' out err | cut -c 1-160
    night clean; must "clean after $kind" 0 $?
done
for f in model.crl history.sqlite report.html junit.xml; do [ -s work/$f ] || { echo "FAIL: no $f"; bad=1; }; done
exit $bad
