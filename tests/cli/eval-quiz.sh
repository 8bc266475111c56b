# Questions on the demo checkpoint: choice and generate, their ways, what does not change a result, and bad data.
demo=$GOLDEN/../../demo
corral convert "$demo/model" demo.crl --recipe bf16 --quiet >/dev/null
cp "$demo/heldout/tasks.jsonl" . && chmod u+w tasks.jsonl
tasks=tasks.jsonl
figures() { grep -E '^(accuracy|answered|f1|exact_match|chrf|pass@|[a-z_]+ +[0-9]+ +[0-9.]+ )' | awk '{ print $1, $2 }'; }
same() { sed -E 's/"run":\{[^}]*\},//' "$1" >a; sed -E 's/"run":\{[^}]*\},//' "$2" >b; cmp -s a b && echo "$3: same"; }

echo "-- the model finds a word among lettered lines"
corral eval choice demo.crl --data "$tasks" --group choice_word --quiet | figures
corral eval choice demo.crl --data "$tasks" --group choice_word --by generate --quiet | figures
corral eval choice demo.crl --data "$tasks" --group choice_math --by option --normalise none --quiet | figures
corral eval choice demo.crl --data "$tasks" --group choice_math --by option --normalise unconditional --limit 20 --quiet | figures

echo "-- nothing depends on how it is computed"
corral eval choice demo.crl --data "$tasks" --group 'choice_*' --limit 30 --by option --json --items --quiet >one.json
corral eval choice demo.crl --data "$tasks" --group 'choice_*' --limit 30 --by option --json --items --quiet \
    --parallel 3 --batch 40 --threads 1 >two.json
same one.json two.json "choice"
corral eval generate demo.crl --data "$tasks" --limit 60 --json --items --quiet >one.json
corral eval generate demo.crl --data "$tasks" --limit 60 --json --items --quiet --parallel 1 --batch 7 --threads 1 >two.json
same one.json two.json "generate"

echo "-- tasks"
corral eval generate demo.crl --data "$tasks" --group add --quiet --limit 50 | figures
corral eval generate demo.crl --data "$tasks" --group times --quiet --metric number --extract number --limit 20 | figures
corral eval generate demo.crl --data "$tasks" --group know --quiet --limit 20 --metric f1 | figures | head -2

echo "-- examples in the prompt, a template, another metric"
cat >gsm.jsonl <<'END'
{"question": "What is 2 + 3?", "answer": "2 + 3 = 5\n#### 5"}
{"question": "What is 4 + 4?", "answer": "4 + 4 = 8\n#### 8"}
{"question": "What is 20 + 1?", "answer": "20 + 1 = 21\n#### 21"}
END
corral eval generate demo.crl --data gsm.jsonl --shots 1 --template '{question}' --extract number --max-tokens 20 --json --quiet |
    grep -oE '"(format|items|shots|score|template|extract)":[^,]*'
corral eval generate demo.crl --data gsm.jsonl --prompt text --max-tokens 20 --json --quiet | grep -oE '"(prompt|stop)":[^,]*'

echo "-- programs are written, and run only by a command"
cat >code.jsonl <<'END'
{"id": "t/1", "question": "Write the word true.", "tests": "exit 0", "setup": "false"}
{"id": "t 2", "question": "Write it again.", "tests": "exit 3"}
END
corral eval generate demo.crl --data code.jsonl --metric code --max-tokens 10 --programs out --quiet | figures
ls out
tail -n 1 out/t_1.py
corral eval generate demo.crl --data code.jsonl --metric code --max-tokens 10 --programs out --sandbox sh --quiet | figures
corral eval generate demo.crl --data code.jsonl --metric code --samples 3 --pass-at 2 --temperature 1 --max-tokens 10 --programs out \
    --sandbox 'sleep 5; sh' --sandbox-seconds 1 --limit 1 --quiet | figures

echo "-- refused"
: >empty.jsonl
try corral eval choice demo.crl --data empty.jsonl --quiet
printf '{"question": "q", "answer": "a"}\n{"question": "q"}\n' >field.jsonl
try corral eval generate demo.crl --data field.jsonl --quiet
try corral eval choice demo.crl --data "$tasks" --group add --quiet
try corral eval choice demo.crl --data "$tasks" --group nothing --quiet
try corral eval choice demo.crl --quiet
try corral eval choice demo.crl --data "$tasks" --normalise bytes
try corral eval generate demo.crl --data "$tasks" --metric best
try corral eval generate demo.crl --data "$tasks" --template '{question} {answer}' --quiet
try corral eval generate demo.crl --data gsm.jsonl --pattern '(' --quiet
try corral eval generate demo.crl --data gsm.jsonl --shots 3 --quiet
try corral eval generate demo.crl --data code.jsonl --metric code --sandbox sh --quiet
printf '{"question": "q", "answer": "a", "image": "x.png"}\n' >image.jsonl
try corral eval generate demo.crl --data image.jsonl --quiet
corral eval generate demo.crl --data image.jsonl --without-images --max-tokens 3 --quiet | figures
{ printf '{"question": "'; head -c 9000 /dev/zero | tr '\0' x; printf '", "answer": "a"}\n{"question": "What is 1 + 1?", "answer": "2"}\n'; } >long.jsonl
try corral eval generate demo.crl --data long.jsonl --quiet
corral eval generate demo.crl --data long.jsonl --skip-long --quiet | grep -E '^(items|left_out|accuracy) ' | awk '{ print $1, $2 }'
