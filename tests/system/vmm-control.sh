#!/bin/bash
# SPDX-License-Identifier: MIT
# The control socket: what it answers, two VMMs on one path, nonsense, and the end by a signal.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"

run() {
	start "$1" "$vmm" run --accel thread --vcpus 2 --memory 16M --command stamp --control "$tmp/control"
	wait_for 30 is_idle
}

run vmm
ask status | jq -e '.ok and .state == "running" and .vcpus == 2 and .memory_bytes == 16777216 and
	.accel == "thread" and .command == "stamp"' >/dev/null || fail "status: $(ask status)"

# A command that no vCPU has begun has made no progress, however much the last one made.
ask pause >/dev/null
ask command churn >/dev/null
ask status | jq -e '.busy and .command == "churn" and .progress == 0' >/dev/null ||
	fail "not begun: $(ask status)"
ask resume >/dev/null

# Paused, nothing moves; a snapshot leaves it paused; resumed, it goes on.
wait_for 30 progress_over 10
ask pause >/dev/null
before=$(ask status | jq .progress)
ask snapshot "$tmp/paused" >/dev/null
[[ $(ask status | jq -r .state) = paused ]] || fail "the snapshot resumed it"
[[ $(ask status | jq .progress) = "$before" ]] || fail "the guest moved while paused"
ask resume >/dev/null
wait_for 30 progress_over "$before"
refused ask command verify
contains "$output" 'command \\"verify\\": \\"churn\\" is still running'
refused ask command discard:4M,4K
contains "$output" 'is writing memory'
ask command stop | jq -e '.ok and .command == "churn" and .mismatches == 0 and .rounds >= 1' >/dev/null
"$vmm" restore "$tmp/paused" --eager --accel thread --json --command stop --command verify >"$tmp/r"
clean "$tmp/r"

refused ask fly
contains "$output" 'fly: no such request'
refused ask command fly
contains "$output" 'no such command'
refused "$vmm" run --accel thread --memory 4M --control "$tmp/control"
contains "$output" "control socket $tmp/control: Address already in use"
ask status >/dev/null # the first one did not lose its socket
touch "$tmp/file"
refused "$vmm" run --accel thread --memory 4M --control "$tmp/file"
contains "$output" "control socket $tmp/file: Address already in use"
[[ -f $tmp/file ]] || fail "a file that is no socket was removed"

# A socket left over from a VMM that was killed is taken over.
kill -KILL "${started[vmm]}"
ended vmm 10
[[ -S $tmp/control ]] || fail "expected a left-over socket"
run second
stop second
[[ ! -e $tmp/control ]] || fail "the socket was left behind"

# A signal in the middle of work that has an end is a failure; of a churn that has none it is not.
start endless "$vmm" run --accel thread --memory 16M --command churn --control "$tmp/control"
wait_for 30 progress_over 100
stop endless
start cut "$vmm" run --accel thread --memory 16M --command churn:rounds=1000000000 \
	--control "$tmp/control"
wait_for 30 progress_over 100
kill -TERM "${started[cut]}"
ended cut 20
((status == 1)) || fail "status $status of work cut short"
contains "$(cat "$tmp/cut.log")" 'the machine ended before "churn:rounds=1000000000" did'

# quit by request
run third
ask quit >/dev/null
ended third 20
((status == 0)) || fail "status $status after quit"
