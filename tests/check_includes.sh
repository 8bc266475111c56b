#!/bin/sh
# Include directions (ARCHITECTURE.md): a folder includes only folders below it, siblings meet in the layer above, and
# each foreign library comes in through one door. Paths are written from the root.
#
# usage: check_includes.sh [ROOT]; prints each violation and exits 1 if there is one.
set -u
root=${1:-${srcdir:-.}}
cd "$root" || exit 99

list()
{
    for dir in src simd quant convert bench tests; do
        [ -d "$dir" ] && find "$dir" \( -name '*.[ch]' -o -name '*.def' -o -name '*.inc' \) -print
    done
    true
}

grep_includes() # file:line:  <name> or "name"
{
    list | xargs grep -nHE '^[[:space:]]*#[[:space:]]*include' |
        sed -nE 's/^([^:]*):([0-9]*):[^<"]*([<"][^>"]*)[>"].*/\1 \2 \3/p'
}

grep_includes | awk '
BEGIN {
    # folder -> folders it may include besides itself
    below["base"] = ""
    below["quant"] = "base"
    below["simd"] = "quant base"
    below["store"] = "simd quant base"
    below["text"] = below["model"] = below["vision"] = "store simd quant base"
    below["run"] = "text model vision store simd quant base"
    programs = "run text model vision store simd quant base"
    below["convert"] = below["bench"] = below["serve"] = below["eval"] = programs
    below["cli"] = "convert bench serve eval " programs    # the program that holds the commands of the others
    below["tests"] = "cli convert bench serve eval " programs

    # header -> the only files (or folders, with a slash at the end) which may name it
    door["omp.h"] = "src/base/team.c"
    door["hwloc.h"] = door["numa.h"] = door["numaif.h"] = "src/base/topo.c"
    door["jansson.h"] = "src/base/json.h"
    door["pcre2.h"] = "src/text/"
    door["stb_image.h"] = door["stb/stb_image.h"] = "src/vision/image.c"
    door["xxhash.h"] = door["xxh_x86dispatch.h"] = "src/base/hash.c"
    door["sqlite3.h"] = "src/eval/history.c"
    door["microhttpd.h"] = "src/serve/http.c"
    door["cmocka.h"] = "tests/"
    door["immintrin.h"] = door["x86intrin.h"] = door["arm_neon.h"] = door["cpuid.h"] = "simd/"
}
function folder(path) {
    sub(/^src\//, "", path)
    sub(/\/.*/, "", path)
    return path
}
function bad(what) {
    printf "%s:%s: %s\n", $1, $2, what
    n_bad++
}
{
    n_seen++
    name = substr($3, 2)
    if (substr($3, 1, 1) == "<") {
        base = name ~ /^hwloc\// ? "hwloc.h" : name
        if (base in door && (door[base] ~ /\/$/ ? index($1, door[base]) != 1 : $1 != door[base]))
            bad("<" name "> belongs behind its door, " door[base])
        next
    }
    if (name == "config.h") next
    if (name !~ /\//) { bad("\"" name "\" is not written from the root"); next }
    if (name ~ /^src\// || name ~ /(^|\/)\.\.?\//) { bad("\"" name "\": paths start at the root or at src/, without either"); next }
    from = folder($1)
    to = folder(name)
    if (!(from in below)) { bad("folder " from " is not in the picture"); next }
    if (from != to && index(" " below[from] " ", " " to " ") == 0)
        bad("\"" name "\": " from " must not include " to)
}
END {
    if (n_seen == 0) { print "no include found: is this the source folder?"; exit 1 }
    if (n_bad) exit 1
    printf "%d includes, all downward\n", n_seen
}'
