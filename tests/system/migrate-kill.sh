#!/bin/bash
# SPDX-License-Identifier: MIT
#
# One side is killed (SIGKILL), in each phase and at any moment. Before GO the machine goes on where it was, or is
# gone with its own side, and the other says why it did not come. After GO the other side keeps what it has, says
# that it is lost, runs nothing twice, and can be ended.
#
# KILLS=N sets how many moments are tried of each side.
#
# timeout: 300
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

kills=${KILLS:-6}
modes=(hybrid postcopy precopy)
declare -A seen=()

# leaves [OPTION...] - a machine at work, and a migration of it that takes a while
leaves() {
	if ! [[ ${started[a]-} ]]; then
		runs a --accel thread --vcpus 2 --memory 16M --command stamp:light
		at a command churn >/dev/null
	fi
	receives b --accel thread
	rm -f "$tmp/client.log"
	start client "$vmm" migrate --control "$tmp/a" --to "$address" --max-downtime 20000 "$@"
}

killed() { # NAME
	kill -KILL "${started[$1]}" 2>/dev/null || :
	ended "$1" 10
}

forget() { # NAME
	rm -f "$tmp/$1" "$tmp/$1".*
}

# told_twice NAME - it ends, but not at once: it has part of a machine
told_twice() {
	refused at "$1" quit
	contains "$output" 'of the machine.s memory are still to .*; told again'
	at "$1" quit >/dev/null
	ended "$1" 20
}

# The source is what is left: its machine runs, or it is lost and says so, or it had gone.
source_is_left() {
	ended client 30
	if has_ended a || grep -q '^migration to .*: done$' "$tmp/client.log"; then
		outcome="done"
		ended a 10
		((status == 0)) || fail "the source ended with $status: $(cat "$tmp/a.log")"
		forget a
		return
	fi
	contains "$(cat "$tmp/client.log")" '^faultline-vmm migrate: .'
	if phase_is a failed; then
		outcome=failed
		at a status | jq -e '.state == "running" and .mismatches == 0' >/dev/null || fail "$(at a status)"
		wait_for 20 at_work a "$(at a status | jq .progress)"
		return
	fi
	outcome=lost
	wait_for 20 phase_is a lost
	at a status | jq -e '.state == "leaving"' >/dev/null || fail "it runs on both sides: $(at a status)"
	refused at a resume
	refused at a command verify
	refused "$vmm" migrate --control "$tmp/a" --cancel
	contains "$output" 'the machine runs on the other host'
	refused "$vmm" migrate --control "$tmp/a" --recover
	contains "$output" '[Rr]efused'
	phase_is a lost || fail "a recovery that failed changed it: $(at a status)"
	told_twice a
	((status == 1)) || fail "the source ended with $status, and had lost its machine"
	contains "$(cat "$tmp/a.log")" 'memory was still to follow it: it is lost'
	forget a
}

target_has_decided() {
	has_ended b || phase_is b lost || phase_is b "done" || phase_is b meeting
}

# The target is what is left: no machine came, or all of it, or one that waits for its memory.
target_is_left() {
	forget a
	ended client 20
	wait_for 30 target_has_decided
	if phase_is b "done" 2>/dev/null; then
		outcome="done"
		proves b
	elif phase_is b lost 2>/dev/null && at b status | jq -e '.state == "running"' >/dev/null; then
		outcome=lost
		at b status | jq -e '.incoming.left > 0 and .mismatches == 0' >/dev/null || fail "$(at b status)"
		refused at b snapshot "$tmp/snapshot"
		contains "$output" 'memory is not all here'
		told_twice b
		((status == 1)) || fail "the target ended with $status without all of its machine"
	else
		outcome=failed
		# One that nobody really met waits for the next to come, and one that was READY for its user.
		has_ended b || at b quit >/dev/null 2>&1 || at b quit >/dev/null 2>&1 || :
		ended b 20
		((status == 1)) || fail "the target ended with $status, and no machine came"
		contains "$(cat "$tmp/b.log")" 'faultline-vmm receive: .'
	fi
}

# judges VICTIM - the other one is judged, and what became of it is counted
judges() {
	killed "$1"
	outcome=
	if [[ $1 = b ]]; then source_is_left; else target_is_left; fi
	forget b
	forget client
	seen[$1.$outcome]=$((${seen[$1.$outcome]:-0} + 1))
}

# In a phase that is sure.
for victim in a b; do
	leaves --mode precopy --bandwidth 1M
	wait_for 20 phase_is a rounds
	judges $victim
	[[ $outcome = failed ]] || fail "$victim was killed in a round: $outcome"
	leaves --mode postcopy --bandwidth 1M
	wait_for 20 phase_is a following
	wait_for 20 phase_is b following
	judges $victim
	[[ $outcome = lost ]] || fail "$victim was killed after the switch: $outcome"
done

# At any moment; most are around the switch, which comes soon.
for ((i = 0; i < kills; i++)); do
	for victim in a b; do
		leaves --mode "${modes[i % 3]}" --bandwidth 32M
		sleep "$((RANDOM % 2)).$((RANDOM % 10))" # no condition is waited for: that is the point
		judges $victim
	done
done
echo "outcomes: $(for outcome in "${!seen[@]}"; do echo -n "$outcome ${seen[$outcome]} "; done)"
