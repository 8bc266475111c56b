# Mistakes are one sentence; nothing is left under the final name.
stage A
corral convert A a.crl --recipe bf16 --quiet >/dev/null
try corral logits
try corral logits a.crl --ids 1
try corral logits a.crl --output o.npy
try corral logits a.crl --ids 1 --ids-file x --output o.npy
try corral logits a.crl --ids 1 --piece 0 --output o.npy
try corral logits a.crl --ids 1,128 --output o.npy
try corral logits a.crl --ids 1,-2 --output o.npy
try corral logits a.crl --ids 99999999999999999999 --output o.npy
try corral logits a.crl --ids "" --output o.npy
try corral logits a.crl --ids-file nowhere --output o.npy
try corral logits a.crl --ids 1,2,3,4 --ctx 3 --output o.npy
try corral logits a.crl --ids 1 --output no/such/o.npy
try corral logits a.crl --ids 1 --output o.npy --quantize q4
try corral logits A --ids 1 --output o.npy --quantize q5
try corral logits nowhere --ids 1 --output o.npy
try corral logits A/config.json --ids 1 --output o.npy
ls
