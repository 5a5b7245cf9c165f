#!/bin/bash
# SPDX-License-Identifier: MIT
# Memory given back reads as zeros, on each backing, and stays so through a snapshot.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"

for backing in anon memfd; do
	"$vmm" run --accel thread --vcpus 2 --memory 32M --backing $backing --json --command stamp \
		--command discard:8M,4M --command discard:31M,64K --command verify:random \
		--command churn:rounds=2 --command discard:31M,64K --command verify \
		--snapshot "$tmp/$backing" >"$tmp/$backing.json"
	clean "$tmp/$backing.json"
	[[ $(value "$tmp/$backing.json" '.commands[1].zero') = 1040 ]] || fail "1024 + 16 zero pages"
	[[ $(value "$tmp/$backing.json" '.commands[3].zero') = 1040 ]] || fail "churn, then discarded"
	"$vmm" restore "$tmp/$backing" --eager --accel thread --json --command verify:random,shared \
		--command stamp --command verify >"$tmp/r"
	clean "$tmp/r"
	[[ $(value "$tmp/r" '.commands[0].zero') = 2080 ]] || fail "zeros were lost in the snapshot"
	[[ $(value "$tmp/r" '.commands[2].zero') = 0 ]] || fail "a new stamp writes all pages"
done

# While the guest verifies: each page is what it was or zero, and zero once it is gone.
start vmm "$vmm" run --accel thread --vcpus 2 --memory 64M --command stamp --control "$tmp/control"
wait_for 30 is_idle
for n in {1..20}; do
	ask command verify:random,shared >/dev/null
	ask command discard:$((4 + 2 * n))M,1M >/dev/null
	ask wait | jq -e '.ok and .mismatches == 0' >/dev/null || fail "discard $n: $(ask wait)"
done
ask --wait command verify | jq -e '.zero == 20 * 256 and .mismatches == 0' >/dev/null ||
	fail "5120 zero pages expected"
stop vmm
