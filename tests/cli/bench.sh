# Figures vary, their names do not: every number becomes N, and what must be positive is checked.
figures() { sed -E 's/:\[[0-9.]+\]/:[N]/; s/:-?[0-9][0-9.e+-]*/:N/g; s/"([a-z0-9_]*)isa":"[a-z0-9]*"/"\1isa":"LEVEL"/g; s/(_peak":)"[a-z0-9]*"/\1"PEAK"/; s/"bf16_peak_tflops":N,//'; }
number() { grep -oE "\"$1\":[0-9.e+-]+" run.json | sed 's/.*://'; }

try corral bench --synthetic tiny --threads 2 --prefill 40 --decode 4 --decode-at 70 --repeat 3 --json >run.json 2>warnings
grep -vE 'bench --synthetic|note: (the machine was busy|repetitions differ)' warnings
grep -v '^exit' run.json | figures | tr ',{' '\n\n'
for what in read_bandwidth_gbs int8_peak_tops f32_peak_tflops tokens_per_s fraction_of_bandwidth fraction_of_peak; do
    for n in $(number $what); do
        echo "$n" | awk -v what=$what '{ print what, ($1 > 0 && $1 < 1e12 ? "positive" : "is " $1) }'
    done
done

# the table of growth, a packed file, one level down
corral bench --synthetic tiny --layers 1,2 --prefill 8 --decode 2 --repeat 1 --quiet --json | grep -oE '"layers":[0-9]+'
stage A
corral convert A m.crl --quiet >/dev/null
corral bench m.crl --isa scalar --prefill 8 --decode 2 --repeat 1 --quiet --json |
    grep -oE '"(model|recipe|isa|int8_peak_isa)":"[^"]*"'
corral bench --synthetic tiny --recipe q8 --tensor '*o_proj.weight=bf16' --prefill 0 --decode 2 --repeat 1 --quiet --json |
    grep -oE '"(recipe|decode|prefill|bytes_per_token)":("[a-z0-9]*"|[0-9]+)?'
corral bench --kernels --isa scalar --json | grep -oE '"kernel":"crl_gemm_q4_scalar","isa":"scalar","rows":[0-9]+'

try corral bench
try corral bench --synthetic huge
try corral bench --synthetic tiny --kernels
try corral bench m.crl --layers 2
try corral bench --synthetic tiny --layers 0
try corral bench --synthetic tiny --layers 1,
try corral bench --synthetic tiny --threads 0
try corral bench --synthetic tiny --threads 100000
try corral bench --synthetic tiny --isa sse9 2>levels # the list grows with the kernels
sed 's, (scalar.*,,' levels >&2
try corral bench --synthetic tiny --recipe q5
try corral bench --synthetic tiny --tensor 'nothing*=q8'
try corral bench --synthetic tiny --decode 0 --prefill 0
try corral bench --synthetic tiny --decode 5000
try corral bench nowhere.crl
try corral bench --synthetic maverick --layers 1024 --recipe bf16 2>&1 | sed -E 's/[0-9.]+ [kMG]B are/SOME are/'
