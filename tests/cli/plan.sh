# Where a model would lie; machines are pretended.
TWO='package:2 [numa(memory=256GiB)] core:32 pu:1'
try corral plan --synthetic scout --recipe q4 --topology "$TWO"
corral plan --synthetic scout --recipe q4 --topology "$TWO" --json |
    grep -oE '"(chosen|fits)":[^,]*|"bytes_per_node":[^]]*]|"bytes_per_token":[0-9]*,"threads":[0-9]*'
try corral plan --synthetic tiny --topology 'package:1 numa:2(memory=1GiB) core:2 pu:2' --numa experts --threads 3
echo '{"counts": [null, [9, 1, 9, 1], [], [1, 1, 1, 1]]}' >routes.json
corral plan --synthetic tiny --topology "$TWO" --numa experts --routing routes.json --json | grep -o '"chosen":"[a-z]*"'
stage A
corral convert A m.crl --recipe q8 --quiet >/dev/null
try corral plan m.crl --topology "$TWO" --numa rows | head -1
try corral plan A --recipe q8 --topology "$TWO" --numa rows | head -1
try corral plan --synthetic scout --recipe bf16 --numa rows --topology 'package:2 [numa(memory=48GiB)] core:2 pu:1' --context 8192 | tail -3
try corral plan --synthetic scout --topology 'package:2 [numa] core:2 pu:1'
try corral plan --synthetic scout --topology 'packages:2'
try corral plan --synthetic scout --topology absent.xml
try corral plan --synthetic scout --topology "$TWO" --context 99999999
echo '{"counts": []}' >routes.json
try corral plan --synthetic tiny --topology "$TWO" --routing routes.json
try corral plan
try corral plan m.crl --recipe q4
try corral plan --synthetic huge
try corral plan --synthetic scout --numa both
try corral plan --synthetic scout --memory sram
try corral plan --synthetic scout --threads 5000
