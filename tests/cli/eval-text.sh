# Evaluations over text: numbers of the reference implementation, independence of threads and batches, refusals.
stage_text
corral convert text text.crl --recipe bf16 --quiet >/dev/null
corral convert text q4.crl --recipe q4 --quiet >/dev/null
said text.jsonl >text.jsonl
evaluate() { corral eval "$@" --json --items --quiet | sed 's/"run":{[^}]*}//'; }

# transformers in float32 (make_model.py): per document, negative log likelihood and tokens
evaluate perplexity text.crl --text text.jsonl >whole
sed 's/.*"items"://' whole | grep -oE '"(score|weight)":[0-9.]*' | cut -d: -f2 | paste - - >got
said text.nll >want
paste got want | awk '{ d = ($1 - $3) / $2; if (d < 0) d = -d; if (d > 1e-4 || $2 != $4) bad = 1 }
                      END { print NR, "documents,", bad ? "wrong" : "right" }'
for o in '--threads 1' '--batch 1' '--batch 5 --threads 3'; do
    evaluate perplexity text.crl --text text.jsonl $o >got
    cmp whole got && echo "$o: same"
done
evaluate perplexity text --text text.jsonl >got; cmp whole got && echo "checkpoint: same"
evaluate perplexity text.crl --text text.jsonl --window 9 --stride 4 >whole
evaluate perplexity text.crl --text text.jsonl --window 9 --stride 4 --batch 6 --threads 1 >got
cmp whole got && echo "windows: same"
grep -oE '"(window|stride|documents|positions|n)":[0-9]+' whole | sort -u
corral eval perplexity text.crl --text text.jsonl --limit 1 --quiet | grep -cE '^(perplexity|nll|bits_per_byte) '

# reference and divergence
corral eval reference text.crl --text text.jsonl --output a.crr --entries 50 --quiet >/dev/null
corral eval reference text.crl --text text.jsonl --output b.crr --entries 50 --batch 3 --threads 1 --quiet >/dev/null
cmp a.crr b.crr && echo "reference: same"
corral eval divergence text.crl --reference a.crr --quiet | grep -E '^(kl.max|top.same|router.same) ' |
    awk '{ print $1, ($2 < 1e-9 ? "zero" : $2) }'
evaluate divergence q4.crl --reference a.crr >whole
evaluate divergence q4.crl --reference a.crr --batch 4 --threads 3 >got
cmp whole got && echo "divergence: same"
grep -oE '"kl.mean":\{"value":[^,]*' whole | awk -F: '{ print ($3 > 1e-6 ? "q4 differs" : "no difference: " $3) }'

# routing
corral eval routing text.crl --text text.jsonl --output counts.json --quiet | grep -cE '^[0-3] '
grep -oE '"(tokens|experts|used|group)":[0-9]+' counts.json

# bad input
try corral eval perplexity text.crl
try corral eval perplexity text.crl --text nothing.txt
: >empty.txt
try corral eval perplexity text.crl --text empty.txt
printf '\n\n' >empty.jsonl
try corral eval perplexity text.crl --text empty.jsonl
printf '{"text": "a b"}\n{"text": 5}\n' >bad.jsonl
try corral eval perplexity text.crl --text bad.jsonl
printf '{"text": "a b"}\n\n{"txt": "c"}\n' >bad.jsonl
try corral eval perplexity text.crl --text bad.jsonl
try corral eval perplexity text.crl --text text.jsonl --field story
printf '{"text": "a b"\n' >bad.jsonl
try corral eval perplexity text.crl --text bad.jsonl
printf '["a b"]\n' >bad.jsonl
try corral eval perplexity text.crl --text bad.jsonl
printf '{"ids": [1, 99999]}\n' >bad.jsonl
try corral eval perplexity text.crl --text bad.jsonl
printf '{"ids": [1]}\n' >bad.jsonl
try corral eval perplexity text.crl --text bad.jsonl
printf '{"ids": [1, 2]}\n{"text": "a"}\n' >bad.jsonl
try corral eval perplexity text.crl --text bad.jsonl
printf 'a\377b' >bad.txt
try corral eval perplexity text.crl --text bad.txt
try corral eval perplexity text.crl --text text.jsonl --window 300
try corral eval perplexity text.crl --text text.jsonl --window 8 --stride 9
try corral eval reference text.crl --text text.jsonl
try corral eval reference text.crl --text text.jsonl --output no/such/folder.crr
try corral eval divergence text.crl
try corral eval divergence text.crl --reference text.jsonl
head -c 500 a.crr >cut.crr
try corral eval divergence text.crl --reference cut.crr
cp a.crr bad.crr
poke bad.crr 400 '\377'
try corral eval divergence text.crl --reference bad.crr
stage A
try corral eval divergence A --reference a.crr 2>err
sed -E 's/[0-9a-f]{16}/HASH/g' err >&2
try corral eval routing text.crl --text text.jsonl --stride 3
# the context that the model was made for is part of the configuration
sed 's/"max_position_embeddings": 256/"max_position_embeddings": 255/' text/config.json >c && mv c text/config.json
try corral eval divergence text --reference a.crr 2>err
sed -E 's/[0-9a-f]{16}/HASH/g' err >&2
