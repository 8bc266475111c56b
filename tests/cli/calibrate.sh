# Statistics of a model, a conversion by them, and what is refused.
stage A
printf '{"ids":[1,2,3,4,5,6,7,8,9,10,11,12]}\n{"ids":[9,8,7,6,5,4,3]}\n' >t.jsonl
try corral calibrate A --text t.jsonl --output s.crs --span 32 --quiet | tail -1
corral calibrate A --text t.jsonl --output s2.crs --span 32 --threads 1 --quiet >/dev/null && cmp s.crs s2.crs && echo same statistics
corral calibrate A --text t.jsonl --text t.jsonl --output s3.crs --json --quiet | tr ',' '\n' | grep -E '"(tokens|span|experts)"' | head -3
try corral convert A a.crl --calibration s.crs --quiet >/dev/null
corral convert A b.crl --calibration s.crs --jobs 1 --quiet >/dev/null && cmp a.crl b.crl && echo same bytes
corral verify a.crl --against A --calibration s.crs | tail -1
try corral verify a.crl --against A 2>/dev/null
poke s2.crs 100 '\377'
try corral convert A c.crl --calibration s2.crs
stage C
try corral convert C c.crl --calibration s.crs
try corral calibrate A --output x.crs
try corral calibrate A --text t.jsonl --output x.crs --span 33
ls *.crl *.crs
