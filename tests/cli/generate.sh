# corral run says what the reference says, repeats itself for a seed, and stops where it is told to.
stage_text
corral convert text text.crl --recipe bf16 --quiet >/dev/null
ids() { sed -E 's/.*"ids":\[([0-9,]*)\].*/\1/'; }
run() { corral run "$@" --quiet; }
same() { cmp "$1" "$2" && echo same; }
said raw.ids >raw.ids
said raw.txt >raw.txt
said first.txt >first.txt
run text.crl --raw --prompt 'The cat and the dog' --max-tokens 12 --json | ids >got; same got raw.ids
run text.crl --raw --prompt 'The cat and the dog' --max-tokens 12 >got; same got raw.txt
run text --raw --max-tokens 12 <<END >got; same got raw.txt
The cat and the dog
END
printf 'Hello there' >prompt
run text.crl --system 'Be brief.' --prompt-file prompt --max-tokens 12 >got; same got first.txt
run text.crl --system 'Be brief.' --prompt-file prompt --max-tokens 12 --threads 1 --isa scalar >got; same got first.txt

# a seed
draw() { run text.crl --prompt x --max-tokens 20 --temperature 1 --top-p 0.9 "$@"; }
draw --seed 7 >a
draw --seed 7 >b; same a b
draw --seed 8 >b; cmp -s a b || echo "another seed differs"
draw --seed 7 --json | grep -oE '"(seed|temperature|top_p|top_k|end)":[^,}]*'
draw --seed 7 --json --stream | sed '$d' | sed -E 's/^\{"piece":".*"\}$/a piece/' | uniq
draw --seed 7 --json --stream --max-tokens 3 | tail -n 1 | grep -oE '"(end|tokens|prompt_tokens|decoded_tokens)":[^,}]*'

# stop strings and tokens, a full context
text=$(run text.crl --raw --prompt 'The cat and the dog' --max-tokens 12)
stop=$(corral tokenize text --decode --text "$(cut -d, -f3,4 raw.ids)" | cut -c2-3)
run text.crl --raw --prompt 'The cat and the dog' --max-tokens 12 --stop never --stop "$stop" --json >got
grep -oE '"end":"[a-z_]*"' got
run text.crl --raw --prompt 'The cat and the dog' --max-tokens 12 --stop "$stop" >got
case $text in "$(cat got)$stop"*) echo "cut before the stop string" ;; *) echo "wrong cut: $(cat got)" ;; esac
third=$(cut -d, -f3 raw.ids)
sed "s/\[886, 893\]/[$third]/" text/generation_config.json >g.json && cp g.json text/generation_config.json
run text --raw --prompt 'The cat and the dog' --json | grep -oE '"(end":"[a-z_]*"|ids":\[[0-9,]*\])'
cut -d, -f1-3 raw.ids
corral run text.crl --prompt 'Hello there' --ctx 18 --temperature 0 --stop "$stop" --json | grep -oE '"(end":"[a-z_]*"|tokens":[0-9]*)'

# the report
corral run text.crl --prompt x --max-tokens 3 --temperature 0 --stats --threads 1 2>&1 >/dev/null |
    sed -E 's/[0-9.]+ s,/TIME s,/; s/[0-9.]+ tokens\/s/RATE tokens\/s/; s/kernels [a-z0-9]*/kernels LEVEL/
        s/^load .*hashes/load      RATE; hashes/; s/^(numa .*1 node).*/\1/; s/^(node .*per token).*/\1/'
