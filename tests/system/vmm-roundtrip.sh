#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# A machine is stamped, saved, restored and verified: every accelerator, number of vCPUs, backing.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"

roundtrip() { # ACCEL VCPUS BACKING FORM
	local dir=$tmp/$1-$2-$3
	"$vmm" run --accel "$1" --vcpus "$2" --backing "$3" --memory "$(memory_for "$1")" --json \
		--command "stamp:$4,seed=7" --command verify:random --snapshot "$dir" >"$dir.run"
	clean "$dir.run"
	[[ $(value "$dir.run" .accel) = "$1" ]] || fail "asked for $1, ran on another"
	"$vmm" restore "$dir" --eager --accel "$1" --json --command verify:random \
		--command verify:stride=5 --command verify >"$dir.restore"
	clean "$dir.restore"
	# Every page that was stamped, and no other, is found again.
	[[ $(value "$dir.restore" '[.commands[].stamped] | unique | length') = 1 ]] ||
		fail "the orders of verify did not see the same pages"
	[[ $(value "$dir.restore" .commands[0].stamped) = $(value "$dir.run" .commands[0].pages) ]] ||
		fail "verified and stamped differ"
	[[ $(value "$dir.restore" '.times.first_instruction_us > 0') = true ]]
	rm -r "$dir"
}

for accel in $(accels); do
	form=full
	[[ $accel = thread ]] || form=light
	for vcpus in 1 2 4; do
		roundtrip "$accel" "$vcpus" anon "$form"
	done
	roundtrip "$accel" 2 memfd "$form"
done
