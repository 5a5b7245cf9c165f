#!/bin/bash
# SPDX-License-Identifier: MIT
# Every form of the handshake, one region and 64, an image with holes: every byte arrives, and
# nothing is left open.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image full $((8 * MiB)) 1
image holes $((8 * MiB)) 2 holes
daemon d --socket "$tmp/full.sock" --memory "$tmp/full" \
	--socket "$tmp/holes.sock" --memory "$tmp/holes"
before=$(descriptors "${started[d]}")

for form in none kib both; do
	for regions in 1 64; do
		"$client" --form "$form" --regions "$regions" "$tmp/full.sock" "$tmp/full" touch:2
	done
done
# The socket is closed at once, as Firecracker before 1.12 did.
"$client" --hang-up "$tmp/full.sock" "$tmp/full" touch:2
"$client" --pieces 7 --regions 3 "$tmp/full.sock" "$tmp/full" touch:2
"$client" --regions 5 "$tmp/holes.sock" "$tmp/holes" touch:4
# Less than the whole image.
"$client" --size $((3 * MiB)) "$tmp/holes.sock" "$tmp/holes" touch:1

all_gone d
stat_is d '.totals.accepted == 10 and .totals.ended == 10 and .totals.failed == 0'
# The holes came as zeros, without a read.
stat_is d '.totals.pages.zero >= 1024'
[[ $(descriptors "${started[d]}") -eq $before ]] || fail "descriptors were left open"
stop d
