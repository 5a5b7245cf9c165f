#!/bin/bash
# SPDX-License-Identifier: MIT
# A machine at work moves, and its memory is read over libfabric's tcp provider. While it may have pinned that
# memory no page is exchanged for another.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd-minor

fabric=tcp@127.0.0.1
i=0
for mode in postcopy hybrid precopy; do
	[[ -v there ]] || {
		runs m0 --accel thread --vcpus 2 --memory "$(memory_for thread)" --backing memfd \
			--command stamp:light,fill=80
		at m0 command churn >/dev/null
		there=m0
	}
	wait_for 30 at_work "$there" 1000
	i=$((i + 1))
	# Under ThreadSanitizer the library itself may be quiet for long.
	receives "m$i" --accel thread --fabric tcp --timeout 60000
	"$vmm" migrate --control "$tmp/$there" --to "$address" --json --mode "$mode" --max-downtime 20000 \
		--timeout 60000 --fabric $fabric >"$tmp/$there.migration" || {
		grep -qE 'built without libfabric|no provider' "$tmp/$there.migration" &&
			skip other "$(value "$tmp/$there.migration" .error)"
		fail "$mode: $(cat "$tmp/$there.migration")"
	}
	ended "$there" 20
	at "m$i" status | jq -e '.incoming.way == "fabric" and .incoming.by_way > 1000' >/dev/null ||
		fail "$mode: $(at "m$i" status | jq -c .incoming)"
	there=m$i
done
wait_for 30 at_work "$there" 1000
proves "$there"

# Memory that a device may have pinned keeps its pages; and another provider than ours is refused.
runs here --accel thread --memory "$(memory_for thread)" --command stamp:light,fill=80
receives other --accel thread --fabric verbs
"$vmm" migrate --control "$tmp/here" --to "$address" --json --fabric $fabric >"$tmp/refused" &&
	fail "a provider that was not asked for"
grep -q libfabric "$tmp/refused" || fail "$(cat "$tmp/refused")"
ended other 20
receives slow --accel thread --fabric tcp
start client "$vmm" migrate --control "$tmp/here" --to "$address" --json --mode precopy --max-downtime 1 \
	--bandwidth 4M --fabric $fabric
in_rounds() { phase_is here rounds; }
wait_for 30 in_rounds
at here command discard:4M,1M --wait >"$tmp/discard" || :
grep -q libfabric "$tmp/discard" || fail "discard: $(cat "$tmp/discard")"
"$vmm" migrate --control "$tmp/here" --cancel >/dev/null
ended client 20
ended slow 20
at here command discard:4M,1M --wait | jq -e .ok >/dev/null || fail "memory stays with libfabric"
at here command verify:random --wait | jq -e '.ok and .mismatches == 0 and .stamped > 0' >/dev/null ||
	fail "the machine was read, and is another one"
at here quit >/dev/null
ended here 20
