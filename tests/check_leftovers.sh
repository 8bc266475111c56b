#!/bin/sh
# Nothing unfinished in the tree: no marker words of work put off, no conflict markers, no tab in C, no line far over
# the 110 columns of the style in C, no space at the end of a line.
#
# usage: check_leftovers.sh [ROOT]; prints each place and exits 1 if there is one.
set -u
cd "${1:-${srcdir:-.}}" || exit 99

sources() # extensions...
{
    for dir in src simd quant convert bench tests man docs demo m4; do
        [ -d "$dir" ] || continue
        for ext; do find "$dir" -name "*.$ext" -type f; done
    done | grep -vE '^m4/(lt|libtool)|^tests/(golden|fuzz)/.*/'
}

found=$(mktemp) || exit 99
trap 'rm -f "$found"' EXIT
complain() # what; the places on stdin
{
    sed "s|^|$1: |" >>"$found" # this is the end of a pipe: a variable set here would be lost
}

top=$(for f in quickstart Makefile.am configure.ac README.md ARCHITECTURE.md NEWS; do [ -f $f ] && echo $f; done)
all="$(sources c h def inc sh mk py md m4 1 mut) $top"
code=$(sources c h def inc)
[ -n "$code" ] || { echo "no source found: is this the source folder?"; exit 1; }

grep -nHwE 'TO''DO|FIX''ME|XX''X|HA''CK' $all /dev/null | complain "markers of work put off"
grep -nHE '^(<<<<<<<|>>>>>>>|\|\|\|\|\|\|\|)( |$)' $all /dev/null | complain "conflict markers"
grep -nH "$(printf '\t')" $code /dev/null | complain "tabs"
grep -nHE '[[:space:]]$' $all /dev/null | grep -v '\.md:' | complain "spaces at the end of a line"
awk 'length($0) > 128 { print FILENAME ":" FNR ": " length($0) " columns" }' $code | complain "long lines"
cat "$found"
[ ! -s "$found" ] || exit 1
echo "nothing left over in $(echo $all | wc -w) files"
