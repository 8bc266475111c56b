# Where weights lie changes nothing in what comes out; what was chosen is told; what cannot be is refused.
stage_text
corral convert text text.crl --recipe bf16 --quiet >/dev/null
said raw.txt >raw.txt
two='package:2 [numa(memory=8GiB)] core:2 pu:1'
run() { corral run text.crl --raw --prompt 'The cat and the dog' --max-tokens 12 --quiet "$@"; }
same() { cmp "$1" raw.txt && echo same; }
for mode in auto experts rows interleave off; do
    echo "mode $mode"
    run --numa $mode >got; same got
    run --numa $mode --topology "$two" >got; same got
done
run --mmap >got; same got
run --no-verify >got; same got

run --json --numa experts --topology "$two" | grep -oE '"(mode|pretended|mapped|verified|threads|kv_heads)":[a-z0-9"]*'
run --json --mmap | grep -oE '"(mode|mapped|bytes)":[a-z0-9"]*'
corral run text.crl --prompt x --max-tokens 2 --stats --no-verify --numa rows --topology "$two" 2>&1 >/dev/null |
    grep -E '^(load|numa|node)' | sed -E 's/in .*B\/s;/RATE;/; s/[0-9]+% past/N% past/'
corral run text.crl --prompt x --max-tokens 2 --stats --mmap 2>&1 >/dev/null | grep '^load'

# a checkpoint is packed in memory and placed from there
corral run text --raw --prompt 'The cat and the dog' --max-tokens 12 --quiet --numa rows --topology "$two" >got; same got

try corral run text.crl --prompt x --numa sideways
try corral run text.crl --prompt x --topology 'package:none'
try corral run text.crl --prompt x --mmap --numa rows
try corral run text --prompt x --mmap --quiet
size=$(wc -c <text.crl)
cp text.crl bad.crl && poke bad.crl $((size - 5000)) '\377\377\377\377'
try corral run bad.crl --raw --prompt x --max-tokens 1
