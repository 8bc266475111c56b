# What packed files and checkpoints are.
stage A
stage N
try corral info A
try corral info N/model.safetensors
corral info A --tensors | sed -n '/^tensor /,$p' | head -8
corral convert A m.crl --quiet >/dev/null
try corral info m.crl
corral info m.crl --tensors | sed -n '/^tensor /,$p' | head -8
corral info m.crl --json | grep -oE '"(kind|recipe)":"[a-z0-9]*"|"weights(_[a-z]*)?":[0-9]*,"weights_active":[0-9]*'
corral info A --json | grep -oE '"(kind|files|tensor_count)":("[a-z]*"|[0-9]*)'
try corral info
try corral info nowhere
try corral info A/config.json
