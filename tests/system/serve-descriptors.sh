#!/bin/bash
# SPDX-License-Identifier: MIT
# When there are no descriptors for another session, VMs wait in the backlog: each is served in the
# end, and none is lost halfway.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image a $MiB 1
limited() {
	ulimit -n 110
	exec "$faultline" serve --control "$tmp/d.control" --socket "$tmp/a.sock" --memory "$tmp/a"
}
start d limited
wait_for 30 ready_or_ended d

for vm in one two; do
	vmm $vm "$tmp/a.sock" "$tmp/a" read:0,4096 say:served wait
	says $vm served
done
for vm in {1..20}; do
	start "more$vm" "$client" "$tmp/a.sock" "$tmp/a" touch:1
done
says d 'warning: 2 sessions: no more for now'
stat_is d '.sessions | length == 2'
for vm in {1..20}; do
	running "more$vm" || fail "more$vm was not served, and has ended"
done

# One place for all of them, one after the other.
go two
finishes two
for vm in {1..20}; do
	finishes "more$vm"
done
go one
finishes one
all_gone d
stat_is d '.totals.ended == 22 and .totals.failed == 0 and .totals.refused == 0'
(($(grep -c 'no more for now' "$tmp/d.log") <= 22)) || fail "it says so again and again"
stop d
