#!/bin/bash
# SPDX-License-Identifier: MIT
# 500 VMs at once in one daemon, each with every byte right. Idle, one costs less than 256 KiB
# beside its page-state table. (ThreadSanitizer's own memory would be measured in its build.)
#
# timeout: 300
# serial
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

vms=500
image a $MiB 1
daemon d --socket "$tmp/a.sock" --memory "$tmp/a" --timeout 120

pss_kib() {
	awk '$1 == "Pss:" { print $2 }' "/proc/${started[d]}/smaps_rollup"
}

# One to warm up: what all sessions share is there then.
"$client" "$tmp/a.sock" "$tmp/a" touch:1
all_gone d
before=$(descriptors "${started[d]}")
empty=$(pss_kib)

vmm all --clones $vms "$tmp/a.sock" "$tmp/a" read:0,4096 wait touch:1
wait_for 200 grep -q "$vms clones, 0 failed" "$tmp/all.log"
becomes d "[.sessions[] | select(.state == \"serving\")] | length == $vms"
each=$((($(pss_kib) - empty) / vms))
echo "an idle session costs $each KiB"
if grep -q 'b_sanitize' <(meson introspect --buildoptions "$BUILD" | tr -d ' \n' |
	grep -o '"name":"b_sanitize","value":"none"'); then
	((each < 256)) || fail "an idle session costs $each KiB"
fi
go all
wait_for 200 has_ended all
finishes all
all_gone d
stat_is d ".totals.ended == $((vms + 1)) and .totals.failed == 0 and .totals.refused == 0"
[[ $(descriptors "${started[d]}") -eq $before ]] || fail "descriptors were left open"
stop d
