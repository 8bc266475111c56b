#!/bin/sh
# Conversions that are killed at random points end in the same bytes: kill.py, once as it is and once giving the source up.
set -u
src=$(cd "${srcdir:-.}" && pwd)
: "${CORRAL:=./corral}" "${PYTHON:=python3}"
[ -x "$CORRAL" ] || { echo "no program $CORRAL in this build"; exit 77; }
"$PYTHON" -c 'import subprocess, json' 2>/dev/null || { echo "no $PYTHON"; exit 77; }
top=$(mktemp -d "${TMPDIR:-/tmp}/corral-resume.XXXXXX") || exit 99
trap 'rm -rf "$top"' EXIT
mkdir "$top/a" "$top/b" || exit 99
"$PYTHON" "$src/tests/convert/kill.py" "$CORRAL" "$top/a" 50 || exit 1
"$PYTHON" "$src/tests/convert/kill.py" "$CORRAL" "$top/b" 25 --delete-source || exit 1
