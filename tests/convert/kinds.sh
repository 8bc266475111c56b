#!/bin/sh
# Every form of a checkpoint gives the bytes that the same weights in plain BF16 give, with much memory and with little,
# and verifies against itself. make_kinds.py writes the forms; it needs Python's own library alone.
set -u
src=$(cd "${srcdir:-.}" && pwd)
: "${CORRAL:=./corral}" "${PYTHON:=python3}"
[ -x "$CORRAL" ] || { echo "no program $CORRAL in this build"; exit 77; }
CORRAL=$(cd "$(dirname "$CORRAL")" && pwd)/$(basename "$CORRAL")
"$PYTHON" -c 'import zipfile, pickle, json' 2>/dev/null || { echo "no $PYTHON"; exit 77; }
top=$(mktemp -d "${TMPDIR:-/tmp}/corral-kinds.XXXXXX") || exit 99
trap 'rm -rf "$top"' EXIT
"$PYTHON" "$src/tests/convert/make_kinds.py" "$top" "$@" || exit 99
cd "$top" || exit 99
rc=0
n=0
for ref in *.bf16; do
    kind=${ref%.bf16}
    if "$CORRAL" convert "$ref" ref.crl --quiet >/dev/null && "$CORRAL" convert "$kind" got.crl --quiet >/dev/null &&
        "$CORRAL" convert "$kind" small.crl --quiet --jobs 1 --max-memory 1900k >/dev/null &&
        cmp ref.crl got.crl && cmp ref.crl small.crl && "$CORRAL" verify got.crl --against "$kind" --quiet >/dev/null; then
        echo "ok   $kind"
    else
        echo "FAIL $kind"
        rc=1
    fi
    rm -f ref.crl got.crl small.crl
    n=$((n + 1))
done
[ "$n" -gt 0 ] || rc=1
exit $rc
