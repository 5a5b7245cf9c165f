#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# builds: plain (the figures of a sanitizer build would say nothing)
#
# Every benchmark runs and says something that can be true. Whether the aims are met is not asked
# here: that is for a machine that does nothing else.
. "$(dirname "$0")/../functions.sh"
requires uffd

export TMPDIR=$tmp
"$BUILD/faultline" bench --quick --rounds 1 --json >"$tmp/bench.json" || fail "faultline bench"
jq -e '[.[].name] == ["demand-1", "demand-4", "fill", "around", "replay"]
	and all(.[]; .ours > 0 and .beside > 0 and (.ours / .beside - .ratio | fabs) < 0.001
		and (.within | type) == "boolean")' "$tmp/bench.json" >/dev/null ||
	fail "$(cat "$tmp/bench.json")"
# Around and replay save faults by what they do, not by how fast they do it.
jq -e 'any(.[]; .name == "replay" and .ratio < 0.5)' "$tmp/bench.json" >/dev/null ||
	fail "a replay saves no faults: $(cat "$tmp/bench.json")"

ROUNDS=1 ACCEL=thread "$top/bench/first-instruction" --json >"$tmp/first.json" ||
	fail "bench/first-instruction"
jq -e '.name == "first-instruction" and .ours > 0 and .beside > 0' "$tmp/first.json" >/dev/null ||
	fail "$(cat "$tmp/first.json")"
