# Pictures: rows in place of image tokens, and everything that can be wrong with them. A has tiles of 8 pixels and image
# token 1; a tile is 4 tokens.
stage A
cp "$GOLDEN/vision/V1/picture0.png" small.png
cp "$GOLDEN/vision/V3/picture1.png" wide.png
chmod u+w ./*.png
see() { corral logits "$1" --ids "$2" --image "$3" --output x.npy --quiet; }
corral logits A --ids 2,1,1,1,1,5 --image small.png --output seen.npy --quiet
corral logits A --ids 2,1,1,1,1,5 --image small.png --piece 1 --threads 1 --output pieces.npy --quiet
corral logits A --ids 2,1,1,1,1,5 --output blind.npy --quiet
cmp seen.npy pieces.npy && echo "pieces: the same"
cmp -s seen.npy blind.npy || echo "a picture makes a difference"
try corral logits A --ids 2,1,1,1,1,5 --image wide.png --max-tiles 1 --output one.npy --quiet
try see A 2,1,1,1,5 small.png
try see A 2,1,1,1,1,1,5 small.png
try corral logits A --ids 2,1,1,1,1,5 --image small.png --image small.png --output x.npy --quiet
try corral logits A --ids 2,1,1,1,1,5 --image small.png --max-tiles 0 --output x.npy --quiet
try see A 2,1,1,1,1,5 nowhere.png

head -c 100 small.png >cut.png
try see A 2,1,1,1,1,5 cut.png
cp small.png bad.png
poke bad.png 60 '\377\001'
try see A 2,1,1,1,1,5 bad.png
printf 'GIF89a\001\000\001\000' >moving.gif
try see A 2,1,1,1,1,5 moving.gif
printf 'RIFF\020\000\000\000WEBPVP8 ' >web.png
try see A 2,1,1,1,1,5 web.png
: >empty.jpg
try see A 2,1,1,1,1,5 empty.jpg
echo "no picture at all" >text.bmp
try see A 2,1,1,1,1,5 text.bmp

# The tower in q8, as the recipe q4 keeps it; a text-only model says that it sees nothing.
corral convert A m.crl --recipe q4 --quiet >/dev/null
try see m.crl 2,1,1,1,1,5 small.png
stage_text
try corral run text --prompt "What is this?" --image small.png --quiet
try see text 1,2 small.png
printf '/image small.png\n' >said
corral chat text --quiet <said
echo "exit $?"
