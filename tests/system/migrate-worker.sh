#!/bin/bash
# SPDX-License-Identifier: MIT
# A machine at work moves, and its memory comes by two page workers. They are killed: before the switch the
# machine runs on where it was; after it the link brings the rest, and no page is lost.
# timeout: 300
. "$(dirname "$0")/../worker-functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd-minor

workers() {
	worker out --listen 127.0.0.1:0
	worker in
}

leaves() { # NAME VCPUS
	runs "$1" --accel thread --vcpus "$2" --memory "$(memory_for thread)" --backing memfd \
		--command stamp:light,fill=80
	at "$1" command churn >/dev/null
	wait_for 30 at_work "$1" 1000
}

by_worker() { # NAME FIELD
	jq -e ".incoming.$2" <(at "$1" status)
}

# All modes, one after the other, from process to process.
workers
leaves m0 2
i=0
for mode in postcopy hybrid precopy; do
	receives "m$((i + 1))" --accel thread --worker "$tmp/in.sock"
	migrates "m$i" --mode $mode --max-downtime 20000 --worker "$tmp/out.sock"
	i=$((i + 1))
	by_worker "m$i" 'way == "worker" and .incoming.by_way > 1000' >/dev/null ||
		fail "$mode: $(at "m$i" status | jq -c .incoming)"
	wait_for 30 at_work "m$i" 1000
done
proves "m$i"

# What is not asked for by both, or cannot be, is said.
leaves plain 1
receives alone --accel thread
"$vmm" migrate --control "$tmp/plain" --to "$address" --json --worker "$tmp/nobody.sock" >"$tmp/refused" &&
	fail "a worker that is not there"
grep -q 'nobody.sock' "$tmp/refused" || fail "$(cat "$tmp/refused")"
migrates plain --worker "$tmp/out.sock"
grep -q 'reads by the link alone' "$tmp/plain.log" || fail "$(cat "$tmp/plain.log")"
proves alone
runs anon --accel thread --memory "$(memory_for thread)" --backing anon
"$vmm" migrate --control "$tmp/anon" --to 127.0.0.1:1 --json --worker "$tmp/out.sock" >"$tmp/refused" &&
	fail "memory that is no file"
grep -q 'backing memfd' "$tmp/refused" || fail "$(cat "$tmp/refused")"
at anon quit >/dev/null
ended anon 20

# killed NAME - SIGKILL, and gone
killed() {
	kill -KILL "${started[$1]}"
	ended "$1" 20
}

has_come_some() {
	at g status | jq -e '.incoming.phase == "following" and .incoming.by_way > 0'
}

# cut_short VICTIM - a machine moves, and a worker is killed while memory is still coming by it
cut_short() {
	runs f --accel thread --vcpus 2 --memory 384M --backing memfd --command stamp:light,fill=90
	at f command churn >/dev/null
	wait_for 30 at_work f 1000
	receives g --accel thread --worker "$tmp/in.sock"
	start f.client "$vmm" migrate --control "$tmp/f" --to "$address" --mode postcopy \
		--worker "$tmp/out.sock" --json
	wait_for 30 has_come_some
	killed "$1"
	ended f.client 60
	((status == 0)) || fail "$1 was killed: $(cat "$tmp/f.client.log")"
	ended f 20
	wait_for 30 at_work g 1000
	at g status | jq -e '.incoming.phase == "done"' >/dev/null || fail "$(at g status)"
	proves g
}

# After the switch: a worker of one side, then of the other. Should all have come just then, once more.
for victim in in out; do
	for ((try = 0; try < 5; try++)); do
		cut_short $victim
		cut=$(grep -c 'the rest comes by the link' "$tmp/g.log" || :)
		rm -f "$tmp"/f* "$tmp"/g*
		if [[ $victim = in ]]; then worker in; else worker out --listen 127.0.0.1:0; fi
		((cut == 0)) || break
	done
	((cut == 1)) || fail "killing $victim was never noticed, or more than once"
done

# Before it: in a round that cannot end, since the machine's memory is read slowly.
leaves f 2
receives g --accel thread --worker "$tmp/in.sock"
start f.client "$vmm" migrate --control "$tmp/f" --to "$address" --mode precopy --max-downtime 1 \
	--bandwidth 4M --worker "$tmp/out.sock" --json
in_rounds() { phase_is f rounds; }
wait_for 30 in_rounds
killed in
ended f.client 60
((status == 1)) || fail "the worker was killed in a round: $(cat "$tmp/f.client.log")"
grep -q 'page worker' "$tmp/f.client.log" || fail "$(cat "$tmp/f.client.log")"
ended g 20
wait_for 30 at_work f 1000
proves f
