# A weight that is not a number is named; it becomes 0 if the user says so.
stage R
header=$(od -An -tu8 -N8 R/model.safetensors | tr -d ' ')
at=$(tr ',' '\n' <R/model.safetensors | grep -a -A3 '"model.norm.weight"' | grep -ao '"data_offsets": *\[[0-9]*' | head -1 | grep -o '[0-9]*$')
poke R/model.safetensors $((8 + header + at + 2)) '\300\177'
try corral convert R out.crl
ls
try corral convert R out.crl --allow-nonfinite --quiet >/dev/null
corral convert R out.crl --allow-nonfinite --json --quiet | grep -o '"nonfinite":[^]]*]'
corral convert R out.crl --allow-nonfinite >/dev/null
ls
