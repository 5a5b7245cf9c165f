#!/bin/bash
# SPDX-License-Identifier: MIT
# What cannot be read is poisoned, never zeros: an unreadable middle, an image that is cut while it
# is served. What can be read at a second try is read.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd uffd-poison

image a $((4 * MiB)) 1
image cut $((4 * MiB)) 2
daemon d --socket "$tmp/bad.sock" --memory "$tmp/a" --filter error=EIO,range=1M+4K \
	--socket "$tmp/retry.sock" --memory "$tmp/a" --filter error=EIO,first=3,range=1M+64K \
	--socket "$tmp/cut.sock" --memory "$tmp/cut" \
	--socket "$tmp/fill.sock" --memory "$tmp/a" --fill --filter error=EIO,range=2M+8K

"$client" "$tmp/bad.sock" "$tmp/a" read:$((MiB + 4096)),$((3 * MiB - 4096)) sigbus:$MiB read:0,$MiB
says d "page at offset 0x100000 cannot be read: Input/output error"
"$client" "$tmp/retry.sock" "$tmp/a" touch:3

# Filling goes around what cannot be read, and leaves it to the one who touches it.
vmm filled "$tmp/fill.sock" "$tmp/a" say:begun wait sigbus:$((2 * MiB)) sigbus:$((2 * MiB + 4096)) \
	read:0,$((2 * MiB)) read:$((2 * MiB + 8192)),$((2 * MiB - 8192))
becomes d '[.sessions[].pages | select(.left == 2 and .fill == 1022)] | length == 1'
go filled
finishes filled

vmm victim "$tmp/cut.sock" "$tmp/cut" read:0,65536 say:begun wait \
	read:65536,$((2 * MiB - 65536)) sigbus:$((2 * MiB)) sigbus:$((4 * MiB - 4096))
says victim begun
truncate -s 2M "$tmp/cut"
go victim
finishes victim

all_gone d
stat_is d '.totals.failed == 0 and .totals.pages.poisoned >= 5'
stop d
