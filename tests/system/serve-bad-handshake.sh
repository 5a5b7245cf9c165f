#!/bin/bash
# SPDX-License-Identifier: MIT
# Bad handshakes: each gets one line that names what and where, nothing is left open, and a good
# session that runs meanwhile does not notice.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image a $((4 * MiB)) 1
daemon d --socket "$tmp/a.sock" --memory "$tmp/a" --timeout 2
before=$(descriptors "${started[d]}")
vmm good "$tmp/a.sock" "$tmp/a" read:0,4096 say:begun wait touch:2
says good begun
open_one=$(descriptors "${started[d]}")
said=0

# told PATTERN - exactly one more line was said, and it says this
told() {
	local lines
	said=$((said + 1))
	wait_for 30 grep -cE -e "$1" "$tmp/d.log"
	lines=$(grep -cE ' (refused|failed): ' "$tmp/d.log")
	((lines == said)) || fail "$lines lines, not $said, after '$1'"
}

# bad PATTERN ARGUMENT... - a peer that is sent away
bad() {
	"$client" "${@:2}" "$tmp/a.sock" "$tmp/a" closed
	told "session [0-9]+ \(pid [0-9]+\): refused: $1"
}

# fatal PATTERN ARGUMENT... - a VMM that would wait for ever, and is killed
fatal() {
	vmm "fatal$said" "${@:2}" "$tmp/a.sock" "$tmp/a" closed wait
	killed "fatal$((said))"
	told "session [0-9]+ \(pid [0-9]+\): failed: $1.*; its VMM was killed"
}

# regions ADDR SIZE OFFSET... - the text of a handshake
regions() {
	local text=
	while (($#)); do
		text+=",{\"base_host_virt_addr\":$1,\"size\":$2,\"offset\":$3}"
		shift 3
	done
	echo "[${text:1}]"
}

bad 'handshake is not JSON' --raw 'hello'
bad 'handshake is not JSON at byte 2' --raw '[}'
bad 'handshake is not an array' --raw '{}'
bad 'handshake has no regions' --raw '[]'
bad 'handshake nests deeper' --raw "$(printf '%0100d' 0 | tr 0 '[')"
bad 'region 0: size is missing' --raw '[{"base_host_virt_addr":4096}]'
bad 'region 1: size 4097 is not a multiple of its page size 4096' \
	--raw "$(regions 4096 4096 0 8192 4097 4096)"
bad 'region 0: size is 0' --raw "$(regions 4096 0 0)"
bad 'region 0: offset 7 is not a multiple' --raw "$(regions 4096 4096 7)"
bad 'handshake is not JSON' --raw "$(regions 18446744073709547520 8192 0)"
bad 'region 0: page_size 0 is not' \
	--raw '[{"base_host_virt_addr":4096,"size":4096,"offset":0,"page_size":0}]'
many=()
while ((${#many[@]} < 65 * 3)); do
	many+=(4096 4096 0)
done
bad 'handshake has 65 regions' --raw "$(regions "${many[@]}")"
head -c 200000 /dev/zero | tr '\0' ' ' >"$tmp/long"
bad 'handshake is longer than 131072 bytes' --raw "@$tmp/long"
bad 'handshake came without a descriptor' --no-fd
bad 'handshake came with several descriptors' --two-fds
bad 'the descriptor in the handshake is no userfaultfd' --wrong-fd
bad 'handshake did not end within 2000 ms \(0 bytes' --raw ''
bad 'handshake did not end within 2000 ms \(5 bytes' --raw '[{"ba'
"$client" --raw '[{"ba' "$tmp/a.sock" "$tmp/a"
told 'peer left after 5 bytes'

fatal 'region' --raw "$(regions 4096 8192 0 8192 8192 8192)"
fatal 'region' --raw "$(regions 4096 8192 0 16384 8192 4096)"
fatal "region 0 \(offset 0, size 4198400\) lies beyond the image $tmp/a of 4194304 bytes" \
	--raw "$(regions 4096 4198400 0)"
fatal 'region 1 \(offset 1099511627776' --raw "$(regions 4096 4096 0 16384 4096 1099511627776)"

becomes d '.sessions | length == 1'
[[ $(descriptors "${started[d]}") -eq $open_one ]] || fail "descriptors were left open"
go good
finishes good
all_gone d
[[ $(descriptors "${started[d]}") -eq $before ]] || fail "descriptors were left open"
stat_is d '.totals.refused == 19 and .totals.failed == 4 and .totals.ended == 1'
stop d
