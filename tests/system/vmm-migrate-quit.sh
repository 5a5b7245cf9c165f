#!/bin/bash
# SPDX-License-Identifier: MIT
# Told to end while the machine is on two hosts: once is not enough, on either side, by the control socket or
# by a signal. And what only waits can be called off: a migration of a machine that is still arriving, a
# recovery whose asker has gone.
# timeout: 240
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

following() { # [RATE [OPTION...]] - a machine at work that moves from a to b, slowly
	runs a --accel thread --memory 32M --command stamp:light
	at a command churn >/dev/null
	wait_for 20 at_work a 100
	receives b
	start client "$vmm" migrate --control "$tmp/a" --to "$address" --mode postcopy --bandwidth "${1-4M}" \
		--json "${@:2}"
	wait_for 20 phase_is a following
	wait_for 20 owes_some
}

# The set that is due is not known from the beginning.
owes_some() {
	"$vmm" migrate --control "$tmp/a" --status --json | jq -e '.due_left > 0'
}

said() { # NAME PATTERN - on its stderr
	grep -qE -e "$2" "$tmp/$1.log"
}

# Asked once by each way there is, on each side, the machine moves on and is whole; asked once, since the
# same goes for what is said to another side.
following
refused at a quit
((status == 1)) || fail "status $status: $output"
contains "$output" '[1-9][0-9]* pages of the machine.s memory are still to follow it: it ends by itself'
contains "$output" 'told again within 30 s it ends at once, and the machine is lost'
kill -TERM "${started[b]}"
wait_for 10 said b '[1-9][0-9]* pages of the machine.s memory are still to come; told again within 30 s'
at b status | jq -e '.state == "running" and .incoming.left > 0' >/dev/null || fail "$(at b status)"
ended client 60
((status == 0)) || fail "the migration failed: $(cat "$tmp/client.log")"
ended a 20
((status == 0)) || fail "a ended with $status"
proves b
rm "$tmp"/{a,b}*

# By a signal, that the source had, too
following
kill -INT "${started[a]}"
wait_for 10 said a 'memory are still to follow it'
ended client 60
ended a 20
((status == 0)) || fail "a ended with $status"
proves b
rm "$tmp"/{a,b}*

# The second time it is meant, whichever way the first one came
following 1M
kill -TERM "${started[a]}"
wait_for 10 said a 'memory are still to follow it'
at a quit >/dev/null
ended a 20
((status == 1)) || fail "status $status"
contains "$(cat "$tmp/a.log")" 'still to follow it: it is lost'
ended client 20
((status == 1)) || fail "the client ended with $status"
jq -e '.ok == false' <(grep '^{' "$tmp/client.log") >/dev/null || fail "$(cat "$tmp/client.log")"

# The target, which has lost the source: still waits, and is told twice, too
wait_for 20 phase_is b lost
refused at b quit
contains "$output" 'still to come'
kill -TERM "${started[b]}"
ended b 20
((status == 1)) || fail "status $status"
rm "$tmp"/{a,b}*

# A machine that is all here ends at once.
runs c --accel thread --memory 8M --command stamp:light
at c quit >/dev/null
ended c 20
((status == 0)) || fail "status $status"

# Onwards before all has arrived: that waits, is called off, and can be asked for again.
following
receives d
start onward "$vmm" migrate --control "$tmp/b" --to "$address" --json
waits() {
	[[ $("$vmm" control --control "$tmp/b" resume 2>&1) = *'busy with a request: migrate'* ]]
}
wait_for 20 waits
"$vmm" migrate --control "$tmp/b" --cancel --json | jq -e .ok >/dev/null || fail "it cannot be called off"
ended onward 10
((status == 1)) || fail "status $status"
jq -e '.ok == false and (.error | contains("canceled before it began"))' <(grep '^{' "$tmp/onward.log") >/dev/null ||
	fail "$(cat "$tmp/onward.log")"
phase_is a following || fail "the first migration was over before the second could be called off"
refused "$vmm" migrate --control "$tmp/b" --cancel
at b status | jq -e '.state == "running"' >/dev/null || fail "$(at b status)"
at b pause >/dev/null
at b resume >/dev/null
ended client 60
((status == 0)) || fail "the migration failed: $(cat "$tmp/client.log")"
ended a 20
migrates b --mode hybrid
proves d
rm "$tmp"/{a,b,d}*

# A recovery that listens ends with its asker, and another one can be asked for.
following 2M --timeout 2000
target=$address
kill -STOP "${started[b]}"
wait_for 40 phase_is a lost
kill -CONT "${started[b]}"
ended client 20
wait_for 40 phase_is b lost
refused at a quit
contains "$output" 'still to follow it, once the connection was recovered; told again'
start waiter "$vmm" migrate --control "$tmp/a" --recover --listen 127.0.0.1:0 --json
listens() {
	address=$("$vmm" migrate --control "$tmp/a" --status --json | jq -er .listening)
}
wait_for 10 listens
refused "$vmm" migrate --control "$tmp/a" --recover --to "$target"
contains "$output" 'being tried already'
kill -KILL "${started[waiter]}"
ended waiter 10
called_off() {
	"$vmm" migrate --control "$tmp/a" --status --json | jq -e '.phase == "lost" and (.error | contains("called off"))'
}
wait_for 10 called_off
"$vmm" migrate --control "$tmp/a" --recover --to "$target" --json | jq -e '.ok and .phase == "done"' >/dev/null ||
	fail "no second recovery"
ended a 20
proves b
