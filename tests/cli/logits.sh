# Logits are those of the reference, whatever the piece, and from a checkpoint as from the file made of it.
stage A
corral convert A a.crl --recipe bf16 --quiet >/dev/null
ids=ids.txt
cp "$GOLDEN/model/A/ids.txt" .
try corral logits a.crl --ids-file "$ids" --output whole.npy --quiet
for piece in 1 3 8; do
    corral logits a.crl --ids-file "$ids" --piece $piece --output p.npy --quiet && cmp whole.npy p.npy && echo "piece $piece: same"
done
corral logits a.crl --ids "$(cat "$ids")" --threads 1 --output p.npy && cmp whole.npy p.npy && echo "one thread: same"
corral logits A --ids-file - --output p.npy --quiet <"$ids" && cmp whole.npy p.npy && echo "checkpoint: same"
corral logits A --ids-file "$ids" --output q8.npy --quantize q8 --quiet && { cmp -s whole.npy q8.npy || echo "q8: differs"; }
head -c 128 whole.npy | tail -c +11 | sed 's/ *$//'
head -c 10 whole.npy | od -An -tx1
tail -c +129 whole.npy | wc -c | tr -d ' '
# Relative error, norm of the difference over norm: at most 1e-4.
numbers() { od -An -v -w4 -tfF | tr -d ' '; }
tail -c +129 whole.npy | numbers >got
numbers <"$GOLDEN/model/A/logits.f32" >want
paste got want | awk '{ d = $1 - $2; num += d * d; den += $2 * $2 }
                      END { print NR, "values,", num <= 1e-8 * den ? "right" : "wrong: " sqrt(num / den) }'
