#!/bin/bash
# SPDX-License-Identifier: MIT
# A page that cannot be read is lost, not zero: the VMM names it and fails.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd uffd-poison

for accel in $(accels); do
	"$vmm" run --accel "$accel" --vcpus 2 --memory 8M --command stamp:light --snapshot "$tmp/$accel" \
		>/dev/null
	serve "daemon-$accel" "$tmp/socket-$accel" --memory "$tmp/$accel/memory" --around 0 \
		--on-failure leave --filter error=EIO,range=6M+4K
	# What is read before it is served as ever.
	"$vmm" restore "$tmp/$accel" --uffd "$tmp/socket-$accel" --accel "$accel" --json \
		--command verify:pages=100 >"$tmp/r"
	clean "$tmp/r"
	refused timeout 60 "$vmm" restore "$tmp/$accel" --uffd "$tmp/socket-$accel" --accel "$accel" \
		--command verify
	((status == 1)) || fail "exit status $status"
	contains "$output" '(lost: gpa 0x600000|gpa 0x600000, whose page is lost|poisoned page)'
	stop "daemon-$accel"
done
