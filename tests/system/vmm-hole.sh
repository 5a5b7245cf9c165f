#!/bin/bash
# SPDX-License-Identifier: MIT
# builds: plain asan
# Two regions with the hole below 4 GiB between them, offsets cumulative all the same. (Not tsan: nothing new
# of threads here, and more than 3 GiB take a minute.)
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"

for accel in $(accels); do
	dir=$tmp/$accel
	"$vmm" run --accel "$accel" --vcpus 2 --memory 12M --hole 6M --json --command stamp:light,fill=40 \
		--command verify:random --snapshot "$dir" >"$dir.json"
	clean "$dir.json"
	jq -e '[.regions[] | [.gpa, .size, .offset]] ==
		[[0, 6291456, 0], [4294967296, 6291456, 6291456]]' "$dir/layout.json" >/dev/null ||
		fail "layout: $(cat "$dir/layout.json")"
	"$vmm" restore "$dir" --eager --accel "$accel" --json --command discard:0x100000000,64K \
		--command verify:random,shared >"$dir.json"
	clean "$dir.json"
	# The last page of the second region is found by its gpa.
	spoil "$dir/memory" $((12 * 1024 * 1024 - 4096 + 8))
	refused "$vmm" restore "$dir" --eager --accel "$accel" --command verify
	contains "$output" 'page at gpa 0x1005ff000, byte 8: want'
done

# More than 3 GiB makes the hole by itself.
"$vmm" run --accel thread --memory 3400M --command stamp:light,fill=1 --command verify:random,pages=50000 \
	--snapshot "$tmp/big" >/dev/null
jq -e '[.regions[].gpa] == [0, 4294967296]' "$tmp/big/layout.json" >/dev/null || fail "no hole"
(($(stat -c %b "$tmp/big/memory") * 512 < 200 * 1024 * 1024)) || fail "not sparse"
