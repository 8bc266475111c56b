# A packed file becomes a checkpoint again: in BF16 the same tensors and the same logits, whatever the shards.
stage A
corral convert A a.crl --recipe bf16 --quiet >/dev/null
corral export a.crl one --quiet | sed 's/in [0-9.]* s$/in TIME/'
corral export a.crl many --shard-size 40k --json --quiet | sed -E 's/"seconds":[^,]*/"seconds":0/'
ls one many
for from in one many; do
    corral convert $from $from.crl --recipe bf16 --quiet >/dev/null
    corral logits $from.crl --ids 1,2,3,4,5,6,7,8,9,10 --output $from.npy --quiet
done
corral logits a.crl --ids 1,2,3,4,5,6,7,8,9,10 --output a.npy --quiet
cmp a.npy one.npy && cmp a.npy many.npy && cmp one.crl many.crl && echo same logits
corral convert A q4.crl --quiet >/dev/null
corral export q4.crl q4 --quiet >/dev/null
corral convert q4 back.crl --recipe bf16 --quiet >/dev/null
corral export back.crl again --quiet >/dev/null
cmp q4/model.safetensors again/model.safetensors && echo same weights
try corral export a.crl one
try corral export a.crl
try corral export a.crl new --format gguf
try corral export nowhere.crl new
(
    ulimit -f 30
    try corral export a.crl new
)
ls new
try corral convert new x.crl
