#!/bin/sh
# Mutations: the golden test must fail for each deliberate mistake in tests/mutation/*.mut, and pass without it.
#
# A .mut file:
#
#   # why this mistake is likely
#   file: src/model/forward.c
#   case: A H                        golden cases, each of which must notice it,
#   same: S                          or each of which must agree all the same: the change is no mistake
#   golden: tests/golden_vision.c tests/golden/vision    another golden test and its data
#   --- text                         lines that occur exactly once in the file
#   ...
#   --- instead
#   ...
#   --- end                          after any number of texts; another file: line may stand between them
#
# The files are copied, changed, compiled and linked with the golden test before the archives, so that their functions
# take the place of the right ones. The control is the same without the change, and must pass.
#
# usage: run.sh [NAME...]; the makefile gives CC, CPPFLAGS, CFLAGS, LDFLAGS, LIBTOOL, LIBS and GOLDEN, the source of the
# usual golden test. A golden test is run as `program --quick FOLDER CASE` and exits 0 when the case agrees and 1 when it does not.
set -u
here=$srcdir/tests/mutation
tmp=$(mktemp -d "${TMPDIR:-/tmp}/mutation.XXXXXX") || exit 99
trap 'rm -rf "$tmp"' EXIT
bad=0
n=0
complain() { echo "FAIL $*"; bad=1; }

field() { sed -n "s/^$1: *//p" "$2" | tr '\n' ' '; }

mutate() # mutation, root, file -> the mutated source on stdout; 1 unless every text occurs exactly once
{
    awk -v file="$3" '
    FNR == NR {
        if (/^file:/) { here = $2 == file; part = "" }
        if (/^--- end/) whole = 1
        if (!here) next
        if (/^--- text/) n++
        if (/^--- /) part = $2
        else if (part == "text") text[n] = text[n] $0 "\n"
        else if (part == "instead") new[n] = new[n] $0 "\n"
        next
    }
    { all = all $0 "\n" }
    END {
        if (!whole || n == 0) exit 1
        for (i = 1; i <= n; i++) {
            at = index(all, text[i])
            if (text[i] == "" || at == 0 || index(substr(all, at + 1), text[i])) exit 1
            all = substr(all, 1, at - 1) new[i] substr(all, at + length(text[i]))
        }
        printf "%s", all
    }' "$1" "$2/$3"
}

build() # program, sources...
{
    program=$1
    shift
    objects=
    for source; do
        $CC $CPPFLAGS $CFLAGS -O1 -w -c -o "$source.o" "$source" || return 1
        objects="$objects $source.o"
    done
    $LIBTOOL --silent --tag=CC --mode=link $CC $CFLAGS $LDFLAGS -o "$program" "$golden" $objects $LIBS
}

# 0 agrees, 1 differs; anything else (a crash, a message about usage) says nothing about the mistake
agrees() { "$1" --quick "$data" "$2" >"$tmp/out" 2>&1; }

controls=
wanted=$*
for mut in "$here"/*.mut; do
    name=$(basename "$mut" .mut)
    case " ${wanted:-$name} " in *" $name "*) ;; *) continue ;; esac
    n=$((n + 1))
    files=$(field file "$mut")
    cases=$(field case "$mut")
    same=$(field same "$mut")
    [ -n "$files" ] && [ -n "$cases$same" ] || { complain "$name: names no file or no case"; continue; }

    set -- $(field golden "$mut") $GOLDEN tests/golden/model
    data=$srcdir/$2
    golden=$tmp/$(basename "$1" .c).o
    [ -f "$golden" ] || $CC $CPPFLAGS $CFLAGS -O1 -w -c -o "$golden" "$srcdir/$1" ||
        { complain "$1 does not compile"; continue; }

    id=$(echo $files $(basename "$1" .c) | tr ' /' '+_')
    control=$tmp/control-$id
    sources=
    mutated=
    for file in $files; do
        flat=$(echo "$file" | tr / _)
        cat "$srcdir/$file" >"$tmp/$flat" || continue 2
        sources="$sources $tmp/$flat"
        mutate "$mut" "$srcdir" "$file" >"$tmp/$name-$flat" ||
            { complain "$name: its text does not occur exactly once in $file"; continue 2; }
        mutated="$mutated $tmp/$name-$flat"
    done
    [ -x "$control" ] || build "$control" $sources || { complain "$files: does not build by itself"; continue; }
    build "$tmp/$name" $mutated || { complain "$name: does not compile"; continue; }

    for c in $same; do
        agrees "$tmp/$name" "$c" && echo "ok   $name: case $c agrees" || { complain "$name: case $c differs"; cat "$tmp/out"; }
    done
    for c in $cases; do
        case " $controls " in
        *" $id:$c "*) ;;
        *)
            agrees "$control" "$c" || { complain "$name: case $c fails without the mutation"; cat "$tmp/out"; continue; }
            controls="$controls $id:$c"
            ;;
        esac
        agrees "$tmp/$name" "$c"
        rc=$?
        case $rc in
        1) echo "ok   $name: case $c notices" ;;
        0) complain "$name: case $c does not notice" ;;
        *) complain "$name: case $c ends with status $rc"; cat "$tmp/out" ;;
        esac
    done
done
[ "$n" -gt 0 ] || complain "no mutation found"
echo "$n mutations"
exit $bad
