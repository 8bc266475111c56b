# What a machine is differs; that the report is whole does not.
try corral doctor --quick >text
sed -nE 's/^(cores|instructions|huge pages|balancing|governor|scout +q4|maverick +bf16) .*/\1/p' text | tr -s ' '
corral doctor --quick --json | grep -oE '"(measured|machine|models|advice)":' | sort
corral doctor --quick --json | grep -oE '"model":"[a-z]*","recipe":"[a-z0-9]*","bytes":[0-9]*'
try corral doctor now
