# Whole, equal to its checkpoint, damaged, cut, and compared with another checkpoint.
stage A
corral convert A m.crl --recipe q8 --quiet >/dev/null
try corral verify m.crl
try corral verify m.crl --against A
corral verify m.crl --against A --tensors --json | tr '{' '\n' | grep -c '"equal":true'
cp m.crl bad.crl
size=$(wc -c <m.crl)
poke bad.crl 441464 '\377\001\377\001'
try corral verify bad.crl
try corral verify bad.crl --against A
corral verify bad.crl --json 2>/dev/null | grep -o '"whole":[a-z]*'
head -c $((size - 4096)) m.crl >cut.crl
try corral verify cut.crl
poke bad.crl 0 'X'
try corral verify bad.crl
try corral verify A/config.json
try corral verify
try corral verify nowhere.crl
stage C
try corral verify m.crl --against C
