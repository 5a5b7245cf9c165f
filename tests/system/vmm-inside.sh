#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# The pager inside the VMM: lazy restore, memory given back on the way, and a snapshot taken while
# pages are still missing, which must be whole.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

for accel in $(accels); do
	dir=$tmp/$accel
	"$vmm" run --accel "$accel" --vcpus 2 --memory "$(memory_for "$accel")" --command stamp:light,fill=60 \
		--snapshot "$dir" >/dev/null
	for backing in anon memfd; do
		"$vmm" restore "$dir" --inside --accel "$accel" --backing $backing --json --trap uffd \
			--command verify:random,pages=300 --command discard:3M,1M --command verify:random,shared \
			>"$dir.json"
		clean "$dir.json"
		[[ $(value "$dir.json" .pager.trap) = uffd ]] || fail "another trap"
		[[ $(value "$dir.json" '.pager.demand > 0') = true ]] || fail "no page was demanded"
		[[ $(value "$dir.json" '.pager.removed >= 256') = true ]] || fail "REMOVE was not seen"
	done

	# Only a few pages are there when the snapshot is asked for.
	"$vmm" restore "$dir" --inside --accel "$accel" --command verify:pages=20 --snapshot "$dir-2" \
		>"$dir.out" 2>"$dir.err"
	contains "$(cat "$dir.err")" 'pulling missing pages: [0-9]+ of [0-9]+ MiB'
	cmp <(above "$dir/memory") <(above "$dir-2/memory") || fail "the second snapshot is not whole"
	(($(stat -c %b "$dir-2/memory") <= $(stat -c %b "$dir/memory") + 64)) || fail "not sparse"
	"$vmm" restore "$dir-2" --eager --accel "$accel" --json --command verify:random >"$dir.json"
	clean "$dir.json"
done
