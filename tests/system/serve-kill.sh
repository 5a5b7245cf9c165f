#!/bin/bash
# SPDX-License-Identifier: MIT
# A VMM dies while its faults are pending: its session ends, nothing is left open, and others do
# not notice.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image a $((4 * MiB)) 1
daemon d --socket "$tmp/slow.sock" --memory "$tmp/a" --filter delay=1000s \
	--socket "$tmp/a.sock" --memory "$tmp/a"
before=$(descriptors "${started[d]}")

vmm other "$tmp/a.sock" "$tmp/a" read:0,65536 say:half wait touch:2
says other half
open_one=$(descriptors "${started[d]}")

for way in hang-up pieces=4096; do
	vmm "victim-$way" --"$way" "$tmp/slow.sock" "$tmp/a" block:4 say:blocked wait
	says "victim-$way" blocked
	# All four have been seen, and are being read for ever.
	becomes d '[.sessions[] | select(.socket | endswith("slow.sock"))
		| .pages.total - .pages.left] | length == 1'
	kill -KILL "${started[victim-$way]}"
	killed "victim-$way"
	becomes d '.sessions | length == 1'
	[[ $(descriptors "${started[d]}") -eq $open_one ]] || fail "descriptors were left open"
done
go other
finishes other
all_gone d
[[ $(descriptors "${started[d]}") -eq $before ]] || fail "descriptors were left open"
silent d 'failed|refused'
stop d
