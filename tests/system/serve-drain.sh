#!/bin/bash
# SPDX-License-Identifier: MIT
# SIGTERM drains: every guest is filled and released, and goes on without the daemon. A second one
# ends at once: it kills the VMs that lack pages, or leaves them, and says so.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image a $((8 * MiB)) 1
daemon d --socket "$tmp/a.sock" --memory "$tmp/a" --no-release
# Given back before and after: still zeros, with nobody to serve them.
vmm one "$tmp/a.sock" "$tmp/a" read:0,65536 remove:0,8192 say:begun wait \
	remove:$MiB,$MiB storm:2,200
vmm two --regions 7 "$tmp/a.sock" "$tmp/a" say:begun wait touch:3
says one begun
says two begun
becomes d '[.sessions[] | select(.state == "serving")] | length == 2'
# A terminal that is closed ends nothing.
kill -HUP "${started[d]}"
stat_is d '.sessions | length == 2'
stop d
says d 'draining: 2 sessions, [0-9]+ MiB to go'
[[ ! -e $tmp/a.sock && ! -e $tmp/d.control ]] || fail "a socket was left behind"
go one
go two
finishes one
finishes two

# A VM that comes with the signal is drained too; and one that cannot be filled keeps us.
daemon slow --socket "$tmp/b.sock" --memory "$tmp/a" --filter delay=1000s
vmm three "$tmp/b.sock" "$tmp/a" block:1 say:begun wait
becomes slow '[.sessions[] | select(.state == "serving")] | length == 1'
kill -TERM "${started[slow]}"
says slow 'draining: 1 session'
[[ ! -e $tmp/b.sock ]] || fail "it still takes connections"
# The path is free for the next daemon, though this one still runs.
daemon next --socket "$tmp/b.sock" --memory "$tmp/a"
"$client" "$tmp/b.sock" "$tmp/a" touch:1
running slow || fail "it left a VM behind"
kill -TERM "${started[slow]}"
ended slow 20
((status == 1)) || fail "status $status"
grep -q 'ending at once with 8 MiB missing: VMs killed: 1, left waiting: 0' "$tmp/slow.log" ||
	fail "it did not say who was killed"
killed three

# Unless it is to be left; and one that has all of its pages is none of those.
daemon keeper --socket "$tmp/c.sock" --memory "$tmp/a" --filter delay=1000s --on-failure leave \
	--socket "$tmp/whole.sock" --memory "$tmp/a" --fill
vmm four "$tmp/c.sock" "$tmp/a" block:1 say:begun wait
vmm five --size $MiB "$tmp/whole.sock" "$tmp/a" say:begun wait touch:1
says five begun
becomes keeper '[.sessions[] | select(.state == "serving")] | length == 1'
becomes keeper '[.sessions[] | select(.state == "full")] | length == 1'
kill -TERM "${started[keeper]}"
says keeper 'draining: 2 sessions'
kill -TERM "${started[keeper]}"
ended keeper 20
((status == 1)) || fail "status $status"
grep -q 'VMs killed: 0, left waiting: 1' "$tmp/keeper.log" || fail "it did not say who is left"
go five
finishes five
running four || fail "it was killed all the same"
kill -KILL "${started[four]}"
killed four

# Asked for on the control socket, and with nobody there.
control next '{"command":"drain"}' >/dev/null
ended next 20
((status == 0)) || fail "status $status"
