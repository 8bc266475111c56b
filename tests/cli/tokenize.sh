# Text to ids and back, from every kind of tokenizer file.
T=$GOLDEN/tokenizer/small
stage_text
corral convert text text.crl --quiet >/dev/null
for from in "$T/tokenizer.json" "$T/tokenizer.model" "$T" text text.crl; do
    corral tokenize "$from" --ids --text 'The cat, and the dog!' | tee ids
done
corral tokenize text --decode --file ids && echo
corral tokenize text --text 'a cat<|eot|>
ä	\'
echo 'a cat<|eot|>' >file
corral tokenize text.crl --special --bos --file file
corral tokenize text --special --bos --ids <file | corral tokenize text --decode --file -
corral tokenize text --special --bos --ids <file | corral tokenize text --decode --special
corral tokenize text --json --text 'é cat'
corral tokenize text --json --decode --text '39, 68 265
78'
corral tokenize text --ids --text ''
stage A
corral convert A a.crl --quiet >/dev/null
printf 'a\377b' >bad.txt
try corral tokenize text --file bad.txt
try corral tokenize text --decode --text 1,x
try corral tokenize text --decode --text 1,978
try corral tokenize text --decode --ids --text 1
try corral tokenize text --text a --file bad.txt
try corral tokenize
try corral tokenize nowhere --text a
try corral tokenize A --text a
try corral tokenize a.crl --text a
