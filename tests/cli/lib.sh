# lib.sh - put before every script by run.sh.
set -u
corral() { "$CORRAL" "$@"; }

# Copy a golden checkpoint here under its name: stage A
stage()
{
    mkdir "$1" && cp "$GOLDEN/model/$1"/*.json "$GOLDEN/model/$1"/*.safetensors "$1" && chmod -R u+w "$1"
}

# Run a command, then say how it ended, on stdout. On stderr a line says what was run.
try()
{
    echo "\$ $*" | sed 's/^\$ corral/$/' >&2
    rc=0
    "$@" || rc=$?
    echo "exit $rc: $*"
}

# What varies from run to run: "in 0.3 s (1.09 M weights/s, 2 threads)"
steady() { sed -E 's/ in [0-9.]+ [a-z]+ .*threads\)/ in TIME/; s/"seconds":[0-9.e+-]+/"seconds":0/; s/"jobs":[0-9]+/"jobs":0/'; }

# Overwrite bytes of a file: poke FILE OFFSET 'printf format'
poke() { printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null; }

# A tiny checkpoint with a tokenizer, and what the reference says with it: make_model.py.
stage_text()
{
    mkdir text && cp "$GOLDEN"/../cli/model/*.json "$GOLDEN"/../cli/model/*.safetensors text &&
        cp "$GOLDEN/tokenizer/small/tokenizer.json" text && chmod -R u+w text
}
said() { cat "$GOLDEN/../cli/model/$1"; }
