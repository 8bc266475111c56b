#!/bin/sh
# What a build for 64-bit ARM needs besides the cross compiler, below one folder: the libraries of the target as the
# distribution packs them, downloaded and unpacked, never installed. apt-get works on a state of its own in that folder,
# so the machine's packages, sources and architectures stay as they are; root is not needed.
#
# usage: setup.sh FOLDER; makes FOLDER/sys once. Exit status 77, with a sentence, when this machine cannot do it.
set -u
folder=${1:?usage: setup.sh FOLDER}

skip() { echo "check-arm: skipped: $*"; exit 77; }

# configure.ac's libraries, and what those and the programs load when they start
packages="libhwloc-dev libhwloc15 libnuma-dev libnuma1 libxxhash-dev libxxhash0 libjansson-dev libjansson4
    libpcre2-dev libpcre2-8-0 libsqlite3-dev libsqlite3-0 libudev1 libcap2 libgomp1 libgcc-s1 libc6"

[ "$(uname -m)" != aarch64 ] || skip "this machine is 64-bit ARM, where make check runs the same tests"
command -v aarch64-linux-gnu-gcc >/dev/null 2>&1 ||
    skip "no aarch64-linux-gnu-gcc (packages gcc-aarch64-linux-gnu and libc6-dev-arm64-cross)"
command -v qemu-aarch64-static >/dev/null 2>&1 || skip "no qemu-aarch64-static (package qemu-user-static)"
have=$(cat "$folder/sys/packages" 2>/dev/null)
# shellcheck disable=SC2086
want=$(echo $packages)
[ "$have" = "$want" ] && exit 0
{ command -v apt-get && command -v dpkg; } >/dev/null 2>&1 ||
    skip "the libraries of the target are fetched with apt-get and unpacked with dpkg, which are not here"

rm -rf "$folder/sys" "$folder/apt"
mkdir -p "$folder/sys" "$folder/apt/lists/partial" "$folder/apt/archives/partial" "$folder/apt/deb" || exit 1
apt=$(cd "$folder/apt" && pwd) || exit 1
: >"$apt/status"
log=$apt/log
arm_apt()
{
    apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Acquire::Languages=none \
        -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
        -o Dir::Cache="$apt" -o Dir::Cache::archives="$apt/archives" -o APT::Sandbox::User="$(id -un)" "$@" >>"$log" 2>&1
}
arm_apt update || skip "the package lists of arm64 cannot be had; see $log"
# shellcheck disable=SC2086
(cd "$apt/deb" && arm_apt download $packages) || skip "the arm64 packages cannot be had; see $log"
for deb in "$apt"/deb/*.deb; do
    dpkg -x "$deb" "$folder/sys" || { echo "check-arm: $deb cannot be unpacked" >&2; exit 1; }
done
rm -rf "$apt"
echo "$want" >"$folder/sys/packages"
