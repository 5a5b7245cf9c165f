#!/bin/bash
# SPDX-License-Identifier: MIT
# What a machine does while it moves, and what moves with it: commands, discards, a pause, a lazy
# restore that is not over yet; and the ways it can come to a halt over there.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

slowly() { # NAME OPTION...
	start "$1.client" "$vmm" migrate --control "$tmp/$1" --to "$address" --bandwidth 8M "${@:2}"
	wait_for 20 phase_is "$1" rounds
}

moved() { # NAME
	ended "$1.client" 60
	((status == 0)) || fail "the migration failed: $(cat "$tmp/$1.client.log")"
	ended "$1" 20
	((status == 0)) || fail "$1 ended with $status"
}

# Commands and discards during the rounds; a command that ends by itself is waited for over there
runs a --accel thread --vcpus 2 --memory 32M --command stamp:light
receives b --accel thread
slowly a
at a command discard:8M,4M >/dev/null
at a command churn:rounds=3 --wait >/dev/null
at a command discard:4M,64K >/dev/null
at a command churn >/dev/null
wait_for 20 at_work a 100
moved a
contains "$(cat "$tmp/a.client.log")" '^rounds: round 1, '
contains "$(cat "$tmp/a.client.log")" '^migration to .*: done$'
at b command stop >/dev/null
at b command verify --wait | jq -e '.mismatches == 0 and .zero >= 1040 and .unknown == 0' >/dev/null ||
	fail "$(at b command verify --wait)"

# Paused it moves, paused it is; from one that arrived to the next, with a snapshot on the way
at b command churn >/dev/null
wait_for 20 at_work b 100
at b pause >/dev/null
before=$(at b status | jq .progress)
at b snapshot "$tmp/half-way" >/dev/null
receives c --accel thread
migrates b
[[ $(at c status | jq -r .state) = paused ]] || fail "it does not stay paused: $(at c status)"
[[ $(at c status | jq .progress) = "$before" ]] || fail "it moved while paused"
at c resume >/dev/null
wait_for 20 at_work c "$before"
proves c
"$vmm" restore "$tmp/half-way" --eager --accel thread --json --command stop --command verify >"$tmp/r"
clean "$tmp/r"

# One that is still being restored, of each kind, leaves once it is whole
restored() { # OPTION...
	start d bash -c 'to_file "$@"' to_file "$tmp/d.json" "$vmm" restore "$tmp/half-way" --accel thread \
		--control "$tmp/d" --json "$@"
	wait_for 20 at_work d 0
	receives e --accel thread
	migrates d --mode hybrid
	proves e
	rm "$tmp"/d* "$tmp"/e*
}
restored --inside --trap uffd
restored --inside --trap segv
serve daemon "$tmp/socket" --memory "$tmp/half-way/memory"
restored --uffd "$tmp/socket"
stop daemon

# Commands of the receiving side's own; the report of a migration that is over
runs f --accel thread --memory 16M --command stamp
receives g --command verify:random --command "discard:4M,1M" --command verify --snapshot "$tmp/s"
migrates f --mode postcopy
wait_for 20 idle g
at g quit >/dev/null
ended g 20
jq -e '.verb == "receive" and .exit_status == 0 and .mismatches == 0 and .pages_verified > 0 and
	.incoming.phase == "done" and .incoming.faults.miss.count >= 0' "$tmp/g.json" >/dev/null ||
	fail "$(cat "$tmp/g.json")"
"$vmm" restore "$tmp/s" --eager --accel thread --json --command verify >"$tmp/r"
clean "$tmp/r"

# What had ended before it left can still be asked for; what the command line still had to do is not done,
# and that is said.
start k bash -c 'to_file "$@"' to_file "$tmp/k.json" "$vmm" run --accel thread --vcpus 2 --memory 16M \
	--control "$tmp/k" --json --command stamp --command churn --command verify --command verify
wait_for 30 at_work k 100
receives l
migrates k
jq -e '.commands_left == 2 and (.commands | length == 1)' "$tmp/k.json" >/dev/null || fail "$(cat "$tmp/k.json")"
at l command stop >/dev/null
at l command verify:pages=100 --wait >"$tmp/verified"
receives m
migrates l
at m wait >"$tmp/waited"
same='[.command, .status, .pages, .stamped, .churned, .zero, .ms]'
diff <(jq -c "$same" "$tmp/verified") <(jq -c "$same" "$tmp/waited") || fail "another result over there"
at m command verify --wait >"$tmp/verified"
jq -e '.command == "verify" and .pages > 100' "$tmp/verified" >/dev/null || fail "$(cat "$tmp/verified")"
at m quit >/dev/null
ended m 20
start n "$vmm" run --accel thread --memory 16M --control "$tmp/n" --command churn --command verify
wait_for 30 at_work n 100
receives o
"$vmm" migrate --control "$tmp/n" --to "$address" --quiet >/dev/null
ended n 20
contains "$(cat "$tmp/n.log")" '^1 command was not run here: the machine has moved'
at o quit >/dev/null
ended o 20

# By the SIGSEGV trap, where userfaultfd is refused
runs h --accel thread --vcpus 2 --memory 16M --command stamp
at h command churn >/dev/null
receives i --trap segv
migrates h --mode postcopy
refused at i command "discard:8M,1M"
receives j --trap segv
migrates i --mode hybrid
proves j
