#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A machine at work moves back and forth, again and again: every mode, 1, 2 and 4 vCPUs, threads and
# KVM. One page that is lost or goes back in time anywhere makes the guest itself say so.
#
# SOAK=N sets how many moves each machine makes; the default is bounded for everyday.
#
# timeout: 600
# builds: plain
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

modes=(hybrid postcopy precopy)
moves=${SOAK:-30}
began=$SECONDS

# One that is stamped by an interpreted KVM takes long, so its memory is small.
soak() { # ACCEL VCPUS MOVES
	local i from=m0 work=1000 down=20000
	[[ $1 = thread ]] || work=20
	runs m0 --accel "$1" --vcpus "$2" --memory "$(memory_for "$1")" --command stamp:light,fill=80
	at m0 command churn >/dev/null
	for ((i = 1; i <= $3; i++)); do
		receives "m$i" --accel "$1"
		wait_for 60 at_work "$from" $((work * (RANDOM % 8) / 8))
		migrates "$from" --mode "${modes[i % 3]}" --max-downtime "$down"
		[[ $(value "$tmp/$from.migration" .phase) = "done" ]] || fail "$(cat "$tmp/$from.migration")"
		rm -f "$tmp/$from" "$tmp/$from".*
		from=m$i
	done
	proves "$from"
	rm -f "$tmp"/m*
	echo "$1, $2 vCPUs: $3 moves, $((SECONDS - began)) s"
}

for vcpus in 1 2 4; do
	for accel in $(accels); do
		soak "$accel" "$vcpus" "$moves"
	done
done
