#!/bin/sh
# Builds for 64-bit ARM in FOLDER and runs checkkern and golden_logits under user-mode emulation, on one processor per
# level: the kernels of a level run where nothing stronger exists, so an instruction in the wrong file is a crash.
#
# usage: check.sh SOURCE FOLDER. Prints a line per test and counts; exit status 1 when one failed. Where the tools are
# missing it says so in one sentence and the status is 0.
set -u
source=${1:?usage: check.sh SOURCE FOLDER}
folder=${2:?usage: check.sh SOURCE FOLDER}

sh "$source/tests/arm/setup.sh" "$folder"
case $? in
0) ;;
77) exit 0 ;;
*) exit 1 ;;
esac
cd "$folder" || exit 1
sys=$(pwd)/sys
lib=$sys/usr/lib/aarch64-linux-gnu

die() { echo "check-arm: $*" >&2; exit 1; }

PKG_CONFIG=pkg-config PKG_CONFIG_LIBDIR=$lib/pkgconfig:$sys/usr/share/pkgconfig PKG_CONFIG_SYSROOT_DIR=$sys
export PKG_CONFIG PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR
if [ ! -f Makefile ]; then
    "$source/configure" -q --host=aarch64-linux-gnu CPPFLAGS="-isystem $sys/usr/include -isystem \
$sys/usr/include/aarch64-linux-gnu" LDFLAGS="-L$lib -L$sys/lib/aarch64-linux-gnu \
-Wl,-rpath-link,$lib:$sys/lib/aarch64-linux-gnu" >configure.log 2>&1 || { cat configure.log; die "configure failed"; }
fi
${MAKE:-make} -s --no-print-directory corral tests/kernel/checkkern tests/golden_logits || die "the build failed"

passed=0
failed=0
count() # status, name
{
    if [ "$1" = 0 ]; then passed=$((passed + 1)); echo "PASS: $2"
    else failed=$((failed + 1)); echo "FAIL: $2"
    fi
}
emulate() { qemu-aarch64-static -L "$sys" -cpu "$cpu" "$@"; }
test_on() # name, program, arguments...: shows the output of what fails
{
    name=$1
    shift
    emulate "$@" >test.log 2>&1
    rc=$?
    [ $rc = 0 ] || tail -20 test.log
    count $rc "$name ($cpu)"
}
levels() # those the processor has, found out at start
{
    emulate tests/kernel/checkkern --list | awk '!/not on this machine/ && !seen[$2]++ { printf "%s%s", s, $2; s = " " }'
}

srcdir=$source
export srcdir
while read -r cpu level expected; do
    found=$(levels)
    [ "$found" = "$expected" ]
    count $? "levels: $found ($cpu)"
    test_on "checkkern --isa $level" tests/kernel/checkkern --isa "$level" </dev/null
    test_on "golden_logits --quick" tests/golden_logits --quick </dev/null
done <<EOF
max         i8mm     scalar neon dotprod i8mm
neoverse-n1 dotprod  scalar neon dotprod
cortex-a72  neon     scalar neon
EOF

# A level of another architecture is named and refused, and what there is instead is listed.
cpu=neoverse-n1
message=$(emulate ./corral bench --kernels --isa avx2 2>&1 </dev/null)
[ $? = 1 ] && [ "$message" = "corral: bench: this machine has no avx2 (it has scalar, neon, dotprod)" ]
count $? "--isa avx2: $message ($cpu)"
rm -f test.log
echo "# PASS:  $passed"
echo "# FAIL:  $failed"
[ "$failed" = 0 ]
