# A conversion; the same bytes again with other numbers of threads; nothing but the result is left.
stage A
corral convert A out.crl --quiet | steady | sed '/^$/,/^$/d' | cut -c 1-63 # the errors of q4 may improve
try corral convert A two.crl --jobs 1 --recipe q4 --quiet >/dev/null
try corral convert --jobs 3 A/model.safetensors three.crl --quiet >/dev/null
cmp out.crl two.crl && cmp out.crl three.crl && echo same bytes
corral convert A q8.crl --recipe q8 --tensor 'language_model.model.layers.1.*experts.down_proj=bf16' | steady
corral convert A out.json.crl --json | steady | tr ',' '\n' | grep -E '"(checkpoint|output|recipe|seconds|jobs|nonfinite|notes)"'
corral convert A --plan | grep -E '^(memory|result|time)' | sed 's/ .*//'
corral convert A --plan --json | grep -oE '"(memory_bytes|disk_free|totals|bytes_read)"'
ls
