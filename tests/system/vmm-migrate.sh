#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 240
# A machine at work moves from process to process, in every mode, on threads: no page is lost, none
# goes back in time.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

modes=(hybrid postcopy precopy)

# Half of all that the guest fills is written without end.
churned=$(((32 - 2) * 1024 / 4 / 2))

# figures FROM MODE TO - what has a meaning in a mode is told, on the side that was left as on the other
figures() {
	local rounds='(.round >= 1 and .round_left >= 0 and .dirty_rate >= 0)'
	[[ $2 != postcopy ]] ||
		rounds='([.round, .round_left, .dirty_rate] == [null, null, null]) and .faults.miss.count > 0'
	jq -e --arg mode "$2" ".mode == \$mode and $rounds and .downtime_ms > 0 and .total_ms >= .downtime_ms and
		.bytes > 0" "$tmp/$1.migration" >/dev/null ||
		fail "$2: $(cat "$tmp/$1.migration")"
	wait_for 20 phase_is "$3" "done"
	diff <(jq -c '.faults.miss // {count: 0, p50_ns: 0, p99_ns: 0, max_ns: 0}' "$tmp/$1.migration") \
		<(at "$3" status | jq -c .incoming.faults.miss) || fail "$2: demands took another time on the other side"
}

wander() { # VCPUS MOVES BACKING
	local i from=m0
	runs m0 --accel thread --vcpus "$1" --memory "$(memory_for thread)" --backing "$3" \
		--command stamp:light,fill=80
	at m0 command "churn:pages=$((churned / $1))" >/dev/null
	for ((i = 1; i <= $2; i++)); do
		receives "m$i" --accel thread
		wait_for 30 at_work "$from" 1000
		migrates "$from" --mode "${modes[i % 3]}" --max-downtime 20000
		[[ $(value "$tmp/$from.migration" .phase) = "done" ]] || fail "$(cat "$tmp/$from.migration")"
		figures "$from" "${modes[i % 3]}" "m$i"
		from=m$i
	done
	proves "$from"
	[[ $(value "$tmp/$from.verify" .churned) = "$churned" ]] || fail "it churned another part: $(cat "$tmp/$from.verify")"
	[[ $(value "$tmp/$from.json" .incoming.phase) = "done" ]] || fail "$(cat "$tmp/$from.json")"
	rm "$tmp"/m*
}

# For people
runs m0 --accel thread --memory "$(memory_for thread)" --command stamp:light
at m0 command churn >/dev/null
receives m1
wait_for 30 at_work m0 1000
"$vmm" migrate --control "$tmp/m0" --to "$address" --mode postcopy >"$tmp/told" 2>"$tmp/progress"
contains "$(cat "$tmp/told")" '^  downtime [0-9.]+ ms, [0-9.]+ ms in all, [1-9][0-9]* bytes sent '
contains "$(cat "$tmp/told")" '^  pages: [0-9]+ of zeros before the switch, [0-9]+ due at the switch'
contains "$(cat "$tmp/told")" '^  a demand took [0-9.]+ us \(p50\), [0-9.]+ us \(p99\), [0-9.]+ us at most$'
! grep -E 'round [0-9]|written a second|in [0-9]+ rounds' "$tmp/told" "$tmp/progress" || fail "rounds of none"
ended m0 20
proves m1
rm "$tmp"/m*

# Pre-copy alone of one that writes faster than may be sent: refused by name, and it goes on where it was
runs m0 --accel thread --memory 8M --command stamp:light
at m0 command churn >/dev/null
receives m1 --accel thread
wait_for 30 at_work m0 1000
refused "$vmm" migrate --control "$tmp/m0" --to "$address" --mode precopy --max-downtime 1 --max-rounds 3 \
	--bandwidth 4M
contains "$output" 'pre-copy does not converge: after 3 rounds [1-9][0-9]* KiB are left, which do not fit 1 ms'
ended m1 20
((status == 1)) || fail "the receiving side ended with $status, and no machine came"
contains "$(cat "$tmp/m1.log")" 'no machine came to run here: .*pre-copy does not converge'
phase_is m0 failed || fail "$(at m0 status)"
at m0 status | jq -e '.state == "running"' >/dev/null || fail "$(at m0 status)"
wait_for 20 at_work m0 "$(at m0 status | jq .progress)"
proves m0
rm "$tmp"/m*

wander 1 3 anon
wander 2 6 memfd
wander 4 6 anon
