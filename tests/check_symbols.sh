#!/bin/sh
# libcorral exports what its header declares with CRL_API, and nothing else.
#
# usage: check_symbols.sh [HEADER LIBRARY]
set -u
header=${1:-${srcdir:-.}/src/run/corral.h}
library=${2:-${top_builddir:-.}/.libs/libcorral.so}
: "${NM:=nm}"
[ -f "$library" ] || { echo "no shared library in this build"; exit 77; }
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT

tr '\n' ' ' <"$header" | sed 's|/\*[^*]*\*/||g' | grep -oE 'CRL_API [^;(]*\(' | grep -oE 'crl_[a-z0-9_]+\($|crl_[a-z0-9_]+ *\(' |
    tr -d '( ' | sort -u >"$tmp/declared"
$NM -D --defined-only "$library" | awk '{ print $NF }' | sed 's/@.*//' | sort -u >"$tmp/exported"
[ -s "$tmp/declared" ] || { echo "$header declares nothing"; exit 1; }
if ! diff "$tmp/declared" "$tmp/exported" >"$tmp/diff"; then
    sed -n 's/^< /declared, not exported: /p; s/^> /exported, not declared: /p' "$tmp/diff"
    exit 1
fi
echo "$(wc -l <"$tmp/declared") functions exported, as declared"
