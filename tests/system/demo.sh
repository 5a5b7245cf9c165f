#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 240
#
# make demo, small: every figure of its summary is there, and every page was what it should be;
# both ways, the daemon's and the one inside the VMM. The machine then moves. And it fails when a page is not.
. "$(dirname "$0")/../functions.sh"

export BUILD MEMORY=16M TMPDIR=$tmp
for way in 'ACCEL=auto CHECK=500' 'ACCEL=thread CHECK=500' 'TRAP=segv CHECK=500' 'TRAP=segv'; do
	# shellcheck disable=SC2086 # two words are two variables
	env $way "$top/tools/demo" >"$tmp/demo.log" 2>&1 || fail "the demo with $way"
	checked='5[0-9]+'
	[[ $way = *CHECK* ]] || checked=3584 # all that is stamped: without the guest program's 2 MiB
	for line in 'trap  ' 'accelerator  ' 'page by page  ' 'eagerly  ' \
		'  (hit|miss|joined) .* us|100% of memory there, 0 faults served' \
		'demand [0-9]+, around [0-9]+, fill [0-9]+' "checked $checked pages: 0 did not match"; do
		grep -Eq "$line" "$tmp/demo.log" || fail "its summary lacks: $line ($way)"
	done
	# Where userfaultfd is refused, or not asked for, nothing moves.
	if [[ $way != TRAP=segv* ]] &&
		{ "$BUILD/tests/require" uffd >/dev/null || ! grep -q 'trap  .*SIGSEGV' "$tmp/demo.log"; }; then
		for line in '^migration to .*: done$' 'on both sides of the move: 0 did not match'; do
			grep -Eq "$line" "$tmp/demo.log" || fail "its move lacks: $line ($way)"
		done
	fi
	[[ $way != TRAP=segv* ]] || grep -q 'trap  .*SIGSEGV' "$tmp/demo.log" || fail "another trap ($way)"
done

for trap in uffd segv; do
	refused env DAMAGE=1 TRAP=$trap "$top/tools/demo"
	contains "$output" 'the restored guest: .*the guest found 1 pages that are not what was written'
done
