# A suite with its history on the demo checkpoint: gates, resuming, comparing, and what is refused.
demo=$GOLDEN/../../demo
cp "$demo"/heldout/*.jsonl . && chmod u+w *.jsonl
for r in bf16 q8 q4; do corral convert "$demo/model" $r.crl --recipe $r --quiet >/dev/null; done
head -n 12 text.jsonl >some.jsonl
corral eval reference bf16.crl --text some.jsonl --output ref.crr --quiet >/dev/null
cat >suite.json <<'END'
{ "name": "demo & co",
  "evaluations": [
    { "name": "text", "kind": "perplexity", "text": "some.jsonl" },
    { "name": "div", "kind": "divergence", "reference": "ref.crr" },
    { "name": "letters", "kind": "choice", "data": "tasks.jsonl", "group": "choice_word", "limit": 40 },
    { "name": "tasks", "kind": "generate", "data": "tasks.jsonl", "limit": 40, "max_tokens": 40 } ],
  "fail_if": [ "regression", "div.mean > 1.05 * baseline" ] }
END
gates() { grep -E '^(REGRESSION|passes|skipped|verdict|baseline)' | sed -E 's/weights .*/weights/; s/: .*(true|false|worse).*/: \1/'; }

echo "-- the first run has no baseline"
corral eval suite suite.json q8.crl --history h.sqlite --quiet | gates
echo "-- the same again differs in nothing"
corral eval suite suite.json q8.crl --history h.sqlite --quiet >out; echo "exit $?"; gates <out
grep -c ' same$' out
echo "-- 4 bits for 8 are seen, and a run that regressed is no baseline"
corral eval suite suite.json q4.crl --history h.sqlite --quiet --junit j.xml >out; echo "exit $?"; gates <out
grep -E '^<testsuite|failure' j.xml | sed -E 's/ time="[^"]*"//; s/message="[^"]*"/message/'
corral eval suite suite.json q8.crl --history h.sqlite --quiet --fail-if 'tasks.accuracy < 0.1' >out; echo "exit $?"; gates <out

echo "-- comparing"
corral eval compare 1 4 --history h.sqlite >out; echo "exit $?"; tail -n 1 out
corral eval compare h.sqlite@1 h.sqlite@3 --json >out; echo "exit $?"
grep -o '"regressions":[0-9]*' out
corral eval compare 1 3 --history h.sqlite --fail-if 'div.mean < baseline' >/dev/null; echo "exit $?"

echo "-- an interrupted run is gone on with, with what is there"
cat >long.json <<'END'
{ "evaluations": [
    { "name": "text", "kind": "perplexity", "text": "some.jsonl" },
    { "name": "tasks", "kind": "generate", "data": "tasks.jsonl", "limit": 300, "max_tokens": 40 } ] }
END
"$CORRAL" eval suite long.json bf16.crl --history r.sqlite --quiet >/dev/null &
pid=$!
n=0
until corral eval compare 1 1 --history r.sqlite 2>/dev/null | grep -q 'text.nll' || [ $n = 500 ]; do n=$((n + 1)); sleep 0.05; done
kill -9 $pid && wait $pid 2>/dev/null
corral eval suite long.json bf16.crl --history r.sqlite >out 2>err; echo "exit $?"
cat err
grep -c '^text.nll\|^tasks.accuracy' out
head -n 1 out | cut -c 1-5

echo "-- two at a time"
"$CORRAL" eval suite suite.json q8.crl --history two.sqlite --quiet --threads 1 >one.txt & a=$!
"$CORRAL" eval suite suite.json q4.crl --history two.sqlite --quiet --threads 1 >two.txt & b=$!
wait $a; echo "exit $?"; wait $b; rc=$?; [ $rc = 0 ] || [ $rc = 3 ] && echo "ended"
corral eval compare 1 2 --history two.sqlite >/dev/null; rc=$?; [ $rc = 0 ] || [ $rc = 3 ] && echo "both are there"

echo "-- refused"
echo '{"evaluations": [{"name": "a", "kind": "generate", "data": "tasks.jsonl", "shot": 1}]}' >bad.json
try corral eval suite bad.json q8.crl
echo '{"evaluations": [{"name": "a", "kind": "generate"}]}' >bad.json
try corral eval suite bad.json q8.crl
echo '{"evaluations": [{"name": "a", "kind": "beauty"}]}' >bad.json
try corral eval suite bad.json q8.crl
echo '{"evaluations": [{"name": "a", "kind": "choice", "data": "x", "limit": "many"}]}' >bad.json
try corral eval suite bad.json q8.crl
echo '{"evaluations": [{"name": "a", "kind": "choice", "data": "x"}, {"name": "a", "kind": "choice", "data": "x"}]}' >bad.json
try corral eval suite bad.json q8.crl
echo '{"evaluations": [{"name": "a", "kind": "choice", "data": "none.jsonl"}, {"name": "b", "kind": "choice", "data": "tasks.jsonl", "group": "choice_word", "limit": 3}], "fail_if": ["a.accuracy < 1"]}' >bad.json
corral eval suite bad.json q8.crl --quiet --json >out; echo "exit $?"
grep -oE '"(failed|verdict)":("[a-z]*"|.*json: [^"]*)' out
try corral eval suite suite.json q8.crl --fail-if 'tasks.accuracy'
try corral eval suite suite.json q8.crl --baseline 7
try corral eval suite suite.json q8.crl --history h.sqlite --baseline 99 --quiet
printf 'not a database, but longer than a header of one hundred bytes would be: %0100d' 0 >text.sqlite
try corral eval suite suite.json q8.crl --history text.sqlite
try corral eval compare 1 2 --history none.sqlite
try corral eval compare 1 77 --history h.sqlite
try corral eval compare 1 --history h.sqlite

echo "-- a page of it"
mkdir 'a<b>&"c"' && cp q8.crl 'a<b>&"c"/m.crl'
corral eval suite suite.json 'a<b>&"c"/m.crl' --history h.sqlite --quiet >/dev/null; echo "exit $?"
corral report h.sqlite --output page.html; echo "exit $?"
grep -c 'a&lt;b&gt;&amp;&quot;c&quot;/m.crl' page.html
grep -ciE '<script|https?://|src=|@import|<link|a<b>' page.html
for what in '<!doctype html>' '<svg ' '<details>' 'class="box"' 'Trends' 'Speed' 'Worst items' '</html>'; do
    grep -q "$what" page.html && echo "has $what"
done
grep -c '<tr class="is-bad"><td>3</td>' page.html
try corral report none.sqlite --output page.html
try corral report h.sqlite --output page.html --suite other
try corral report h.sqlite
try corral report text.sqlite --output page.html
