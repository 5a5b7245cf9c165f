#!/bin/bash
# SPDX-License-Identifier: MIT
# A machine at work moves from process to process, in every mode, on threads: no page is lost, none
# goes back in time.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

modes=(hybrid postcopy precopy)

wander() { # VCPUS MOVES BACKING
	local i from=m0
	runs m0 --accel thread --vcpus "$1" --memory "$(memory_for thread)" --backing "$3" \
		--command stamp:light,fill=80
	at m0 command churn >/dev/null
	for ((i = 1; i <= $2; i++)); do
		receives "m$i" --accel thread
		wait_for 30 at_work "$from" 1000
		migrates "$from" --mode "${modes[i % 3]}" --max-downtime 20000
		[[ $(value "$tmp/$from.migration" .phase) = "done" ]] || fail "$(cat "$tmp/$from.migration")"
		from=m$i
	done
	proves "$from"
	[[ $(value "$tmp/$from.json" .incoming.phase) = "done" ]] || fail "$(cat "$tmp/$from.json")"
	rm "$tmp"/m*
}

wander 1 3 anon
wander 2 6 memfd
wander 4 6 anon
