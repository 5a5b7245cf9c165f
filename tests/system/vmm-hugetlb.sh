#!/bin/bash
# SPDX-License-Identifier: MIT
# Guest memory of 2 MiB pages; and a clear word where there are not enough.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"

refused "$vmm" run --accel thread --memory 64G --backing hugetlbfs
contains "$output" 'no 32768 free huge pages of 2 MiB .*sysctl vm.nr_hugepages'
refused "$vmm" run --accel thread --memory 5M --backing hugetlbfs
contains "$output" 'in units of 2097152 bytes'

requires hugetlb
for accel in $(accels); do
	dir=$tmp/$accel
	"$vmm" run --accel "$accel" --vcpus 2 --memory 8M --backing hugetlbfs --json --command stamp:light \
		--command discard:6M,2M --command verify:random --snapshot "$dir" >"$dir.json"
	clean "$dir.json"
	[[ $(value "$dir.json" .page_size) = 2097152 ]] || fail "small pages"
	[[ $(value "$dir.json" '.commands[1].zero') = 512 ]] || fail "the discarded page is not zero"
	"$vmm" restore "$dir" --eager --accel "$accel" --json --command verify:random >"$dir.json"
	clean "$dir.json"
	refused "$vmm" restore "$dir" --eager --accel "$accel" --command discard:4M,4K
	contains "$output" 'not whole pages of a region'
	"$BUILD/tests/require" uffd >/dev/null || continue
	"$vmm" restore "$dir" --inside --trap uffd --accel "$accel" --json --command verify:random >"$dir.json"
	clean "$dir.json"
	serve daemon "$tmp/socket" --memory "$dir/memory"
	"$vmm" restore "$dir" --uffd "$tmp/socket" --accel "$accel" --json --command verify:pages=9 \
		--command discard:4M,2M --command verify:random >"$dir.json"
	clean "$dir.json"
	[[ $(value "$dir.json" '.commands[1].zero') = 1024 ]] || fail "the discarded page came back"
	stop daemon
done
