# Every mistake is one sentence and leaves no file.
try corral convert
try corral convert A
try corral convert A out.crl --frobnicate
try corral convert A out.crl --jobs
try corral convert A out.crl --jobs 0
try corral convert A out.crl --jobs many
try corral convert A out.crl --max-memory lots
try corral convert A out.crl --recipe q5
try corral convert A out.crl --tensor 'x'
try corral convert nowhere out.crl
stage A
mkdir folder
try corral convert A folder
try corral convert A no/such/folder/out.crl
try corral convert A out.crl --tensor 'no.such.*=q8'
try corral convert A out.crl --max-memory 1k
cp A/config.json good.json
sed 's/"model_type": *"llama4"/"model_type": "llama"/' good.json >A/config.json
try corral convert A out.crl
sed 's/"head_dim": *16/"head_dim": 15/' good.json >A/config.json
try corral convert A out.crl
echo '{' >A/config.json
try corral convert A out.crl
cp good.json A/config.json
cp A/model.safetensors whole
head -c 20000 whole >A/model.safetensors
try corral convert A out.crl
printf 'version https://git-lfs.github.com/spec/v1\n' >A/model.safetensors
try corral convert A out.crl
rm A/model.safetensors
try corral convert A out.crl
stage M
rm M/model-00003-of-00004.safetensors
try corral convert M out.crl
ls
