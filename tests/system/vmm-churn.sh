#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# Snapshots of a guest that keeps writing: each is one instant, and goes on from there.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"

check() { # ACCEL DIR
	"$vmm" restore "$2" --eager --accel "$1" --json --command stop --command verify:random,shared \
		>"$2.json"
	clean "$2.json"
	[[ $(value "$2.json" '.commands[0].command') = churn:pages=24 ]] ||
		fail "the restored guest was not churning"
	[[ $(value "$2.json" '.commands[1].churned') = 96 ]] || fail "2 x 48 churned pages expected"
}

for accel in $(accels); do
	start vmm "$vmm" run --accel "$accel" --vcpus 2 --memory 8M --command stamp:light \
		--control "$tmp/control"
	wait_for 60 is_idle
	ask command churn:pages=24 >/dev/null
	for n in 1 2 3; do
		wait_for 60 progress_over $((n * 100))
		"$vmm" snapshot --control "$tmp/control" "$tmp/$accel-$n" >/dev/null
	done
	# The guest that was snapshotted did not notice.
	ask command stop | jq -e '.ok and .mismatches == 0 and .rounds > 0' >/dev/null ||
		fail "churn went wrong in the original"
	ask --wait command verify:random | jq -e '.ok and .mismatches == 0' >/dev/null ||
		fail "the original holds wrong pages"
	stop vmm
	for n in 1 2 3; do
		check "$accel" "$tmp/$accel-$n"
	done
	cmp -s "$tmp/$accel-1/memory" "$tmp/$accel-3/memory" && fail "the guest did not move on"
	:
done
