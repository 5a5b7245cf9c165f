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
refused "$vmm" restore "$tmp/s" --inside --trap segv --accel kvm
contains "$output" 'trap segv: .*use --accel thread'
refused "$vmm" restore "$tmp/s" --inside --trap segv --accel thread --command discard:4M,4K
contains "$output" 'the segv trap does not see memory go'
