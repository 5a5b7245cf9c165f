#!/bin/bash
# SPDX-License-Identifier: MIT
# How a migration ends that does not succeed: called off, refused, or one side killed. Before the
# switch the machine goes on where it was; after it nothing hangs and nobody lies.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

# usage PATTERN ARGUMENT... - status 2, and it says why
usage() {
	refused "$vmm" "${@:2}"
	((status == 2)) || fail "status $status: ${*:2}"
	contains "$output" "$1"
}

# goes_on NAME - a machine at work is still, and gets further
goes_on() {
	local before
	before=$(at "$1" status | jq .progress)
	wait_for 20 at_work "$1" "$before"
	at "$1" status | jq -e '.state == "running" and .mismatches == 0' >/dev/null || fail "$(at "$1" status)"
}

# slowly NAME OPTION... - a migration to $address that would take long, under way
slowly() {
	start "$1.client" "$vmm" migrate --control "$tmp/$1" --to "$address" --bandwidth 1M "${@:2}"
}

# gave_up NAME PATTERN - that one failed, and says why
gave_up() {
	ended "$1.client" 20
	((status == 1)) || fail "the client ended with $status"
	contains "$(cat "$tmp/$1.client.log")" "$2"
}

usage '\-\-control PATH is missing' migrate --to 127.0.0.1:1
usage '\-\-to HOST:PORT is missing' migrate --control "$tmp/x"
usage 'one of --cancel, --recover and --status' migrate --control "$tmp/x" --cancel --recover
usage 'takes no option that says how' migrate --control "$tmp/x" --cancel --bandwidth 1M
usage '\-\-listen goes with --recover' migrate --control "$tmp/x" --to 127.0.0.1:1 --listen 127.0.0.1:2
usage 'all of --tls-cert' migrate --control "$tmp/x" --to 127.0.0.1:1 --tls-cert "$tmp/x"
usage '\-\-mode' migrate --control "$tmp/x" --to 127.0.0.1:1 --mode later
usage '\-\-listen HOST:PORT is missing' receive
usage 'memory that moves in is shared' receive --listen 127.0.0.1:0 --backing anon
usage 'KVM is none' receive --listen 127.0.0.1:0 --accel kvm --trap segv
for verb in run 'receive --listen 127.0.0.1:0' 'restore x --eager'; do
	# shellcheck disable=SC2086 # words
	usage "is KVM's" $verb --accel thread --dirty ring
done
for at in nonsense :7000 127.0.0.1:65536 127.0.0.1:x '[::1:7' ::1:7 unix:; do
	usage "\\-\\-listen: address .*is needed|needs brackets" receive --listen "$at"
	usage "\\-\\-to: address .*is needed|needs brackets" migrate --control "$tmp/x" --to "$at"
	usage "\\-\\-listen: address .*is needed|needs brackets" migrate --control "$tmp/x" --recover --listen "$at"
done
usage 'all of --tls-cert' receive --listen 127.0.0.1:0 --tls-cert /none
usage 'wants PROVIDER' receive --listen 127.0.0.1:0 --fabric @here
usage 'wants PROVIDER' migrate --control "$tmp/x" --to 127.0.0.1:1 --fabric tcp@

# What is out of range is no default, and no limit that is none.
for window in 0 1 127K 65M; do
	usage '\-\-window: wants 128K to 64M' receive --listen 127.0.0.1:0 --window "$window"
done
for timeout in 0 86400001 4294967296; do
	usage '\-\-timeout: wants 1 to 86400000' receive --listen 127.0.0.1:0 --timeout "$timeout"
	usage '\-\-timeout: wants 1 to 86400000' migrate --control "$tmp/x" --to 127.0.0.1:1 --timeout "$timeout"
	usage '\-\-max-downtime: wants 1 to 86400000' migrate --control "$tmp/x" --to 127.0.0.1:1 \
		--max-downtime "$timeout"
done
usage '\-\-max-rounds: wants 1 to' migrate --control "$tmp/x" --to 127.0.0.1:1 --max-rounds 0
for rate in 0 65536G; do
	usage '\-\-bandwidth: wants 1 to 65535G' migrate --control "$tmp/x" --to 127.0.0.1:1 --bandwidth $rate
done
usage '\-\-timeout: MS: 18446744073709551615' migrate --control "$tmp/x" --to 127.0.0.1:1 \
	--timeout 18446744073709551615

# A limit that would hold in rounds only is refused: but for precopy, where there is nothing else.
for way in --worker --fabric; do
	for mode in hybrid postcopy; do
		usage "does not limit what $way reads" migrate --control "$tmp/x" --to 127.0.0.1:1 \
			--mode $mode --bandwidth 1M $way tcp
	done
	refused "$vmm" migrate --control "$tmp/x" --to 127.0.0.1:1 --mode precopy --bandwidth 1M $way tcp
	((status == 1)) || fail "status $status: $output"
done

# A VMM that is not there, or goes before it has answered, is an answer, too.
no_answer() { # PATTERN - in $output
	jq -e '.ok == false and (.error | length > 0)' <<<"$output" >/dev/null || fail "no JSON object: $output"
	contains "$output" "$1"
}
for words in migrate\ {'--to 127.0.0.1:1',--cancel,--recover,--status} 'control status' 'snapshot /none'; do
	# shellcheck disable=SC2086 # words
	output=$("$vmm" ${words%% *} --control "$tmp/none" --json ${words#* } 2>/dev/null) && fail "succeeded: $words"
	no_answer 'none: No such file'
done
start deaf python3 -c "
import socket
s = socket.socket(socket.AF_UNIX)
s.bind('$tmp/deaf')
s.listen()
while True:
    c = s.accept()[0]
    c.recv(1)
    c.close()"
wait_for 10 test -S "$tmp/deaf"
output=$("$vmm" migrate --control "$tmp/deaf" --json --to 127.0.0.1:1 2>/dev/null) && fail "succeeded: $output"
no_answer 'closed without an answer'
output=$("$vmm" control --control "$tmp/deaf" --json status 2>/dev/null) && fail "succeeded: $output"
no_answer 'closed without an answer'
kill "${started[deaf]}"
ended deaf 10

runs a --accel thread --vcpus 2 --memory 32M --command stamp:light
at a command churn >/dev/null
refused at a command fly
refused "$vmm" migrate --control "$tmp/a" --cancel
contains "$output" 'no migration is under way'
refused "$vmm" migrate --control "$tmp/a" --recover
contains "$output" 'no migration is under way'
refused "$vmm" migrate --control "$tmp/a" --status
contains "$output" 'there was no migration'

# Nobody there
refused "$vmm" migrate --control "$tmp/a" --to 127.0.0.1:1
contains "$output" '127.0.0.1:1: .*[Rr]efused'
goes_on a

# There, but not willing
receives b --accel kvm
refused "$vmm" migrate --control "$tmp/a" --to "$address"
contains "$output" 'runs on thread: this side is --accel kvm'
ended b 20
((status == 1)) || fail "receive without a machine ended with $status"
contains "$(cat "$tmp/b.log")" 'no machine came to run here: .*--accel kvm'
jq -e '.exit_status == 1 and (.error | contains("no machine came"))' "$tmp/b.json" >/dev/null
receives b --backing hugetlbfs
refused "$vmm" migrate --control "$tmp/a" --to "$address"
contains "$output" 'has pages of 4096 bytes, which want --backing memfd'
ended b 20
goes_on a

# Called off
receives b
slowly a
wait_for 20 phase_is a rounds
at b status | jq -e '.state == "awaited"' >/dev/null
refused at b command verify
contains "$output" 'no machine has come here yet'
refused at a snapshot "$tmp/snapshot"
contains "$output" 'a migration is under way'
refused "$vmm" migrate --control "$tmp/a" --to "$address"
contains "$output" 'under way already'
"$vmm" migrate --control "$tmp/a" --cancel >/dev/null
gave_up a canceled
ended b 20
((status == 1)) || fail "receive ended with $status after a cancel"
goes_on a

# The target dies before the switch
receives b
slowly a
wait_for 20 phase_is a rounds
kill -KILL "${started[b]}"
ended b 10
gave_up a 'migrate: .'
goes_on a

# Told to end before a machine came
receives b
kill -TERM "${started[b]}"
ended b 20
((status == 1)) || fail "status $status"
contains "$(cat "$tmp/b.log")" 'no machine came: this side was told to end'

# The source dies after the switch: the target says so, and can be ended
receives b
slowly a --mode postcopy
wait_for 20 phase_is a following
refused at a command verify
contains "$output" 'on its way to another host'
refused "$vmm" migrate --control "$tmp/a" --cancel
contains "$output" 'too late: the machine runs on the other host'
kill -KILL "${started[a]}"
ended a 10
ended a.client 20
wait_for 20 phase_is b lost
refused at b snapshot "$tmp/snapshot"
contains "$output" 'memory is not all here'
refused "$vmm" migrate --control "$tmp/b" --to 127.0.0.1:1
contains "$output" 'memory is not all here'
at b status | jq -e '.state == "running" and .incoming.left > 0' >/dev/null || fail "$(at b status)"
refused at b quit
contains "$output" 'memory are still to come; told again'
at b quit >/dev/null
ended b 20
