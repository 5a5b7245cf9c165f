#!/bin/bash
# SPDX-License-Identifier: MIT
# One byte of the memory file is changed: verify must say so, and name the page.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"

offset=$((5 * 1024 * 1024 + 3 * 4096 + 2500)) # inside the page at gpa 0x503000
spoiled() { # COMMAND...
	refused "$vmm" restore "$tmp/s" --eager --accel thread "$@"
	((status == 1)) || fail "exit status $status, not 1"
}

"$vmm" run --accel thread --vcpus 2 --memory 16M --command stamp --snapshot "$tmp/s" >/dev/null
spoil "$tmp/s/memory" $offset
for order in verify verify:random verify:stride=9 verify:random,shared; do
	spoiled --command "$order"
	contains "$output" 'first mismatch: page at gpa 0x503000, byte 2496: want 0x[0-9a-f]+, got 0x'
	contains "$output" 'page 0x503000 is not what was written' # the guest's own console
done
# Not seen by a verify that ends before it.
"$vmm" restore "$tmp/s" --eager --accel thread --command verify:pages=16 >/dev/null
# Put right again, all is well: it was this byte.
spoil "$tmp/s/memory" $offset
"$vmm" restore "$tmp/s" --eager --accel thread --json --command verify:random >"$tmp/right"
clean "$tmp/right"

# A page that nobody stamped must be zero.
"$vmm" run --accel thread --memory 16M --command stamp:fill=0 --snapshot "$tmp/z" >/dev/null
spoil "$tmp/z/memory" $offset
refused "$vmm" restore "$tmp/z" --eager --accel thread --quiet --json --command verify
jq -e '.mismatches == 1 and .commands[0].first_mismatch.gpa == "0x503000" and
	.commands[0].first_mismatch.want == "0x0000000000000000"' \
	<<<"$(sed -n '/^{/,/^}/p' <<<"$output")" >/dev/null || fail "not named: $output"

# A whole page from elsewhere, and a page of the generation before, are found too.
"$vmm" run --accel thread --memory 16M --command stamp --snapshot "$tmp/one" >/dev/null
"$vmm" run --accel thread --memory 16M --command stamp --command stamp --snapshot "$tmp/two" >/dev/null
dd if="$tmp/one/memory" of="$tmp/two/memory" bs=4096 skip=1000 seek=1000 count=1 conv=notrunc \
	status=none
refused "$vmm" restore "$tmp/two" --eager --accel thread --command verify
contains "$output" 'page at gpa 0x3e8000, byte 24: want 0x0000000100000002, got 0x0000000100000001'
dd if="$tmp/one/memory" of="$tmp/one/memory" bs=4096 skip=1000 seek=1001 count=1 conv=notrunc \
	status=none
refused "$vmm" restore "$tmp/one" --eager --accel thread --command verify
contains "$output" 'page at gpa 0x3e9000, byte 8: want 0x00000000003e9000, got 0x00000000003e8000'

# churn checks what it finds before it writes: a counter that went back is seen, and a verify too.
"$vmm" run --accel thread --memory 16M --command stamp --command churn:pages=8,rounds=3 \
	--snapshot "$tmp/c" >/dev/null
"$vmm" restore "$tmp/c" --eager --accel thread --command churn:rounds=2 --command verify >/dev/null
spoil "$tmp/c/memory" $((0xffa000 + 24))
for command in churn:rounds=2 verify:random; do
	refused "$vmm" restore "$tmp/c" --eager --accel thread --command $command
	contains "$output" 'page at gpa 0xffa000, byte 24: want 0x0000000000000003, got 0x0000000000000042'
done
