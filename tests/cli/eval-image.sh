# Questions about pictures. seeing is a tiny checkpoint with a vision tower, and what the reference makes of the questions:
# make_seeing.py.
cp -r "$GOLDEN"/../cli/seeing . && cp "$GOLDEN/tokenizer/small/tokenizer.json" seeing && chmod -R u+w seeing
corral convert seeing see.crl --recipe bf16 --quiet >/dev/null
figures() { grep -E '^(accuracy|anls|relaxed_accuracy|pictures|max_tiles|tiles_encoded|items|left_out) ' | awk '{ print $1, $2 }'; }

echo "-- likelihoods of options, against the reference's"
for by in letter option; do
    for kind in text chat; do
        corral eval choice see.crl --data seeing/choice.jsonl --by $by --prompt $kind --json --items --quiet >$by-$kind.json
        grep -o '"log_likelihood":\[[^]]*\]' $by-$kind.json | sed 's/.*\[//; s/[],]/ /g' >mine
        grep "^$by $kind " seeing/choice.lp | cut -d ' ' -f 4- >reference
        paste -d ' ' mine reference | awk -v what="$by $kind" '
            { for (i = 1; i <= NF / 2; i++) { d = $i - $(i + NF / 2); if (d < 0) d = -d; if (d > most) most = d; n++ } }
            END { print what ": " n " options, " (most <= 1e-4 ? "within 1e-4" : "off by " most) }'
    done
done

echo "-- whatever the batch, the threads and the number of questions at a time"
same() { sed -E 's/"run":\{[^}]*\},//' "$1" >a; sed -E 's/"run":\{[^}]*\},//' "$2" >b; cmp -s a b && echo "$3: same"; }
corral eval choice see.crl --data seeing/choice.jsonl --by option --prompt text --json --items --quiet --parallel 1 --batch 7 \
    --threads 1 >two.json
same option-text.json two.json choice
corral eval choice see.crl --data seeing/choice.jsonl --by option --prompt text --parallel 2 --quiet | figures

echo "-- replies, relaxed accuracy, ANLS"
said=$(sed -n 1p seeing/reply.txt)
cat >chart.json <<END
[{"query": "How many dogs?", "label": "$said", "imgname": "wide.png"},
 {"query": "How many dogs?", "label": "another", "imgname": "wide.png"}]
END
corral eval generate see.crl --data chart.json --images seeing/png --prompt chat --max-tokens 3 --json --items --quiet >one.json
grep -o '"reply":"[^"]*"' one.json
corral eval generate see.crl --data chart.json --images seeing/png --prompt chat --max-tokens 3 --quiet | figures
corral run see.crl --prompt "How many dogs?
Answer with a number, a word or a short phrase." --image seeing/png/wide.png --max-tokens 3 --quiet
cat >doc.json <<END
{"dataset_name": "d", "data": [{"questionId": 1, "question": "How many dogs?", "image": "seeing/png/wide.png",
  "answers": ["nothing", "${said%l}"]}]}
END
corral eval generate see.crl --data doc.json --prompt chat --max-tokens 3 --quiet | figures
corral eval generate see.crl --data doc.json --prompt chat --max-tokens 3 --max-tiles 1 --quiet | figures

echo "-- several pictures by number, also among the options"
cat >mmmu.jsonl <<'END'
{"id": "v_1", "question": "Which is larger, <image 1> or <image 2>?", "options": "['<image 1>', '<image 2>']", "answer": "B", "image_1": "seeing/png/small.png", "image_2": {"bytes": null, "path": "seeing/png/wide.png"}, "question_type": "multiple-choice", "subfield": "Art"}
{"id": "v_2", "question": "How large is <image 1>?", "options": "[]", "answer": "8", "image_1": "seeing/png/small.png", "question_type": "open", "subfield": "Art"}
END
corral eval generate see.crl --data mmmu.jsonl --max-tokens 2 --quiet | figures
corral eval generate see.crl --data mmmu.jsonl --max-tokens 2 --shots 1 --quiet | figures
head -n 1 mmmu.jsonl >first.jsonl
corral eval choice see.crl --data first.jsonl --quiet | figures
cat >vista.json <<'END'
{"1": {"pid": "1", "question": "Q", "image": "seeing/png/tall.png", "choices": ["yes", "no"], "answer": "no", "question_type": "multi_choice", "answer_type": "text"}}
END
corral eval choice see.crl --data vista.json --quiet | figures

echo "-- refused"
try corral eval choice see.crl --data first.jsonl --by option --quiet
item() { printf '{"question": "fine", "answer": "a"}\n{"id": "x", "question": "%s", "answer": "a", "images": [%s]}\n' "$1" "$2" >bad.jsonl; }
item "what" '"nowhere.png"'
try corral eval generate see.crl --data bad.jsonl --quiet
head -c 100 seeing/png/wide.png >cut.png
item "what" '"seeing/png/small.png", "cut.png"'
try corral eval generate see.crl --data bad.jsonl --quiet
item "<image 2>" '"seeing/png/small.png"'
try corral eval generate see.crl --data bad.jsonl --quiet
item "<image> <image>" '"seeing/png/small.png"'
try corral eval generate see.crl --data bad.jsonl --quiet
item "what" '7'
try corral eval generate see.crl --data bad.jsonl --quiet
sed 's/"image_1"/"image_3"/' first.jsonl >bad.jsonl
try corral eval generate see.crl --data bad.jsonl --quiet
stage_text
try corral eval choice text --data seeing/choice.jsonl --quiet
corral eval choice text --data seeing/choice.jsonl --without-images --skip-long --quiet | figures
