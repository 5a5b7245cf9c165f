#!/bin/bash
# SPDX-License-Identifier: MIT
# A balloon inflates at any moment, also while the pages are being fetched or filled: what was
# given back reads as zeros, everything else as in the image.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image a $((8 * MiB)) 1
daemon d --socket "$tmp/a.sock" --memory "$tmp/a" \
	--socket "$tmp/slow.sock" --memory "$tmp/a" --filter delay=1ms \
	--socket "$tmp/fill.sock" --memory "$tmp/a" --fill --filter delay=100us \
	--socket "$tmp/keep.sock" --memory "$tmp/a" --fill --no-release

"$client" "$tmp/a.sock" "$tmp/a" remove:4096,65536 touch:2
"$client" "$tmp/a.sock" "$tmp/a" touch:1 remove:4096,65536 touch:2
"$client" --regions 3 "$tmp/a.sock" "$tmp/a" storm:3,500
"$client" --regions 3 "$tmp/slow.sock" "$tmp/a" storm:3,300
"$client" "$tmp/fill.sock" "$tmp/a" storm:3,300
"$client" "$tmp/keep.sock" "$tmp/a" storm:3,300
all_gone d
stat_is d '.totals.ended == 6 and .totals.failed == 0 and .totals.pages.removed > 500'
stop d
