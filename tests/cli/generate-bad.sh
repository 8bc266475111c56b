# Mistakes of corral run and chat, one sentence each.
stage_text
stage A
corral convert text text.crl --quiet >/dev/null
corral convert A a.crl --quiet >/dev/null
printf 'a\377b' >bad.txt
try corral run
try corral run text.crl --frobnicate
try corral run text.crl --prompt
try corral run text.crl --prompt ""
try corral run text.crl # standard input is empty
try corral run text.crl --prompt-file nowhere
try corral run text.crl --prompt-file bad.txt
try corral run text.crl --prompt a --prompt-file bad.txt
try corral run text.crl --prompt a --raw --system b
try corral run text.crl --prompt a --stream
try corral run text.crl --prompt a --image cat.png
try corral run text.crl --prompt a --threads 0
try corral run text.crl --prompt a --threads 100000
try corral run text.crl --prompt a --isa sse9 2>levels # the list grows with the kernels
sed 's, (scalar.*,,' levels >&2
case $(uname -m) in x86_64) foreign=neon ;; *) foreign=avx2 ;; esac
"$CORRAL" run text.crl --prompt a --isa $foreign 2>foreign
echo "exit $? for a level of other machines: $(wc -l <foreign | tr -d ' ') line"
try corral run text.crl --prompt a --ctx 100000
try corral run text.crl --prompt 'much too long' --ctx 4
try corral run text.crl --prompt a --temperature -1
try corral run text.crl --prompt a --temperature nan
try corral run text.crl --prompt a --top-p 1.5
try corral run text.crl --prompt a --seed -1
try corral run text.crl --prompt a --max-tokens 0
try corral run text.crl --prompt a --stop ""
try corral run text.crl --prompt a --quantize q4
try corral run text --prompt a --quantize q5
try corral run nowhere --prompt a
try corral run a.crl --prompt a
try corral run A --prompt a
try corral chat a.crl
try corral chat
