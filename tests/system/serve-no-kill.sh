#!/bin/bash
# SPDX-License-Identifier: MIT
# A daemon that may not kill its VMM: a session that fails keeps the userfaultfd until the VMM is
# gone, so that no page of it reads as zeros; and draining does not change that.
. "$(dirname "$0")/../serve-functions.sh"
requires root uffd

image a $((4 * MiB)) 1
# Another user, who may open everything and signal nobody of ours.
caps="-all,+dac_override"
other_user=(setpriv --reuid 65534 --clear-groups --inh-caps "$caps" --ambient-caps "$caps")
"${other_user[@]}" true || skip other "setpriv cannot become another user"
start d "${other_user[@]}" "$faultline" serve --control "$tmp/d.control" \
	--socket "$tmp/a.sock" --memory "$tmp/a" --filter delay=1000s \
	--socket "$tmp/leave.sock" --memory "$tmp/a" --filter delay=1000s --on-failure leave
wait_for 30 ready_or_ended d
running d || fail "it ended at once"

# Each closes its own userfaultfd, so that ours is the last one.
for name in a leave; do
	vmm "$name" --forget "$tmp/$name.sock" "$tmp/a" block:1 say:begun wait
	says "$name" begun
done
becomes d '[.sessions[] | select(.state == "serving")] | length == 2'
for id in 1 2; do
	contains "$(control d "{\"command\":\"end\",\"session\":$id}")" '"ok":true'
done
says d 'session 1 .*its VMM could not be killed, and is left waiting'
says d 'session 2 .*its VMM is left waiting'
for id in 1 2; do
	contains "$(control d "{\"command\":\"end\",\"session\":$id}")" '"ok":true'
done
kill -TERM "${started[d]}"
says d 'draining: 2 sessions'
# A session that let go would be over by the second of these.
wait_for 60 bash -c "((\$(grep -c draining: '$tmp/d.log') >= 3))"
grep 'draining:' "$tmp/d.log" | tail -n 1 | grep -q '2 sessions' || fail "a session let go"
for name in a leave; do
	running "$name" || fail "a VMM went on with a page that was not there"
done
for name in a leave; do
	kill -KILL "${started[$name]}"
	killed "$name"
done
ended d 20
((status == 0)) || fail "status $status"
