#!/bin/bash
# SPDX-License-Identifier: MIT
# 2 MiB pages: touched, filled, and given back while they are fetched.
#
# serial
. "$(dirname "$0")/../serve-functions.sh"
requires uffd hugetlb

image a $((16 * MiB)) 1
daemon d --socket "$tmp/a.sock" --memory "$tmp/a" \
	--socket "$tmp/slow.sock" --memory "$tmp/a" --filter delay=2ms
(($(cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages) >= 8)) ||
	skip hugetlb "fewer than 8 free pages of 2 MiB"

"$client" --huge --form kib "$tmp/a.sock" "$tmp/a" touch:2
"$client" --huge --form both --regions 4 "$tmp/a.sock" "$tmp/a" touch:2
"$client" --huge "$tmp/slow.sock" "$tmp/a" storm:2,20
all_gone d
stat_is d '.totals.ended == 3'
# Without a page size in the handshake they look like 4 KiB pages, which cannot be installed: the
# session fails, it does not hang.
vmm old --huge --form none "$tmp/a.sock" "$tmp/a" touch:1
killed old
says d 'session 4 .*failed: .*its VMM was killed'
"$client" --huge "$tmp/a.sock" "$tmp/a" touch:1
stop d
