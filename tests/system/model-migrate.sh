#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The switch, the late due set, the other way and the recovery of the page link, in every order of
# events: tests/model/migrate.pml. Each mistake that the model can be given must be found.
#
# LOSSES=N sets how often the network may be lost in each; the default is bounded for everyday.
#
# builds: plain
# timeout: 600
. "$(dirname "$0")/../functions.sh"

command -v spin >/dev/null || skip other "spin is not installed"

model=$PWD/tests/model/migrate.pml
cd "$tmp"

# check OPTIMIZE OPTION... - builds the model's verifier and runs it; succeeds when it ended, with what it said in
# pan.out
check() {
	local optimize=$1
	shift
	rm -f pan pan.* _spin_nvr.tmp
	spin -a "$@" "$model" >spin.out 2>&1 || fail "spin $*: $(cat spin.out)"
	cc -w "$optimize" -DSAFETY -DCOLLAPSE -DMEMLIM=4096 -o pan pan.c || fail "the verifier does not compile"
	./pan -m20000 >pan.out 2>&1 || :
	grep -q 'errors: ' pan.out || fail "$*: no result: $(tail -n 5 pan.out)"
	! grep -qE 'max search depth too small|out of memory|memory limit' pan.out ||
		fail "$*: not all of it was searched: $(grep -E 'depth|memory' pan.out)"
}

right() {
	check -O2 "$@"
	grep -q 'errors: 0' pan.out || fail "$*: $(grep -m 3 'pan:' pan.out)"
	echo "right: $*: $(awk '/states, stored/ { print $1 }' pan.out) states"
}

# A mistake is found sooner than the verifier is made well.
wrong() {
	check -O0 "$@"
	! grep -q 'errors: 0' pan.out || fail "$*: the mistake was not found"
	echo "found: $*: $(grep -m 1 '^pan:1' pan.out)"
}

right -DLOSSES="${LOSSES:-2}"
right -DLOSSES="${LOSSES:-1}" -DCANCELS
right -DLOSSES="${LOSSES:-1}" -DWORST
right -DLOSSES="${LOSSES:-1}" -DWAY

mapfile -t mistakes < <(sed -n 's/^#ifdef \(BREAK_[A-Z_]*\).*/\1/p' "$model" | sort -u)
((${#mistakes[@]})) || fail "no mistakes in $model"
for mistake in "${mistakes[@]}"; do
	needs=()
	[[ $mistake != BREAK_WAY_* ]] || needs=(-DWAY)
	[[ $mistake != BREAK_LAST_WORD ]] || needs=(-DCANCELS)
	wrong "-D$mistake" -DLOSSES=1 "${needs[@]}"
done
