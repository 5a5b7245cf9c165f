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
refused "$vmm" run --accel thread --memory 4M --dirty ring
contains "$output" "is KVM's"
refused "$vmm" receive --listen nonsense
contains "$output" nonsense
refused "$vmm" receive --listen 127.0.0.1:0 --tls-cert /none
contains "$output" 'all of --tls-cert'

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
kill -TERM "${started[b]}"
ended b 20

# Told to end after the switch: what follows is lost, and that is no success
runs a --accel thread --memory 32M --command stamp:light
receives b
slowly a --mode postcopy
wait_for 20 phase_is a following
at a quit >/dev/null
ended a 20
((status == 1)) || fail "status $status"
contains "$(cat "$tmp/a.log")" 'still to follow it'
