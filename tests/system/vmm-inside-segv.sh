#!/bin/bash
# SPDX-License-Identifier: MIT
# Where nothing else is allowed: the pager inside, on SIGSEGV.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"

"$vmm" run --accel thread --vcpus 2 --memory 32M --command stamp:fill=70 --snapshot "$tmp/s" >/dev/null
"$vmm" restore "$tmp/s" --inside --trap segv --accel thread --json --command verify:random,shared \
	>"$tmp/r"
clean "$tmp/r"
[[ $(value "$tmp/r" .pager.trap) = segv ]] || fail "another trap"
"$vmm" restore "$tmp/s" --inside --trap segv --accel thread --command verify:pages=50 \
	--snapshot "$tmp/s2" >/dev/null 2>&1
cmp <(above "$tmp/s/memory") <(above "$tmp/s2/memory") || fail "the second snapshot is not whole"

# Its faults are told by kind, and with --fill all memory comes although the guest asks for little.
[[ $(value "$tmp/r" '[.pager.faults[].count] | add > 0') = true ]] || fail "no faults: $(cat "$tmp/r")"
[[ $(value "$tmp/r" '.pager.faults | keys_unsorted | join(" ")') = 'hit miss joined zero mapped' ]] ||
	fail "other kinds of faults"
[[ $(value "$tmp/r" '.pager.faults | [.[] | .count == 0 or (.max_ns >= .p99_ns and
	.p99_ns >= .p50_ns and .p50_ns > 0)] | all') = true ]] || fail "no times: $(cat "$tmp/r")"
all_there() {
	ask status | jq -e '.pager.left == 0'
}
start filled "$vmm" restore "$tmp/s" --inside --trap segv --fill --accel thread --json \
	--control "$tmp/control" --command verify:pages=20
wait_for 30 all_there
ask status | jq -e '.pager.fill > 0' >/dev/null || fail "not by fill: $(ask status)"
stop filled

refused "$vmm" restore "$tmp/s" --inside --trap segv --accel kvm
contains "$output" 'trap segv: .*use --accel thread'
refused "$vmm" restore "$tmp/s" --inside --trap segv --accel thread --command discard:4M,4K
contains "$output" 'the segv trap does not see memory go'
