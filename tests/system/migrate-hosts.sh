#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Two hosts: network namespaces with a pair of veth between them. A machine moves from one to the
# other, the cable is pulled after the switch, and put back.
#
# builds: plain asan
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd root

id=fl$$
ip netns add "$id.a" 2>/dev/null || skip other "no network namespaces here"
away() {
	ip netns del "$id.a" 2>/dev/null || :
	ip netns del "$id.b" 2>/dev/null || :
}
trap 'away; finish' EXIT
ip netns add "$id.b"
ip link add "$id-a" netns "$id.a" type veth peer name "$id-b" netns "$id.b" 2>/dev/null ||
	skip other "no veth here"
ip -n "$id.a" addr add 10.77.0.1/24 dev "$id-a"
ip -n "$id.b" addr add 10.77.0.2/24 dev "$id-b"
ip -n "$id.a" link set "$id-a" up
ip -n "$id.b" link set "$id-b" up

host() { # a|b COMMAND... - with what it prints to $tmp/a.json
	ip netns exec "$id.$1" "${@:2}"
}

begin() {
	start a ip netns exec "$id.a" bash -c 'to_file "$@"' to_file "$tmp/a.json" "$vmm" run \
		--control "$tmp/a" --json --accel thread --vcpus 2 --memory 64M --command stamp:light
	start b ip netns exec "$id.b" bash -c 'to_file "$@"' to_file "$tmp/b.json" "$vmm" receive \
		--control "$tmp/b" --json --accel thread --listen 10.77.0.2:7000 --timeout 3000
	wait_for 30 idle a
	wait_for 20 grep -q '^listening on 10.77.0.2:7000' "$tmp/b.log"
	at a command churn >/dev/null
}

finish_run() {
	wait_for 20 phase_is b "done"
	ended a 20
	((status == 0)) || fail "the source ended with status $status"
	proves b
	rm -f "$tmp"/a* "$tmp"/b*
}

# There and whole.
begin
"$vmm" migrate --control "$tmp/a" --to 10.77.0.2:7000 --json >"$tmp/migration"
jq -e '.phase == "done"' "$tmp/migration" >/dev/null || fail "$(cat "$tmp/migration")"
finish_run

# The cable is pulled when the machine runs there and its memory is still on the way.
begin
start migration "$vmm" migrate --control "$tmp/a" --to 10.77.0.2:7000 --mode postcopy \
	--bandwidth 4M --timeout 3000 --json
wait_for 20 phase_is b following
ip -n "$id.a" link set "$id-a" down
ended migration 30
((status != 0)) || fail "the migration ended well without a network"
wait_for 30 phase_is a lost
wait_for 30 phase_is b lost
refused "$vmm" migrate --control "$tmp/a" --recover
ip -n "$id.a" link set "$id-a" up
"$vmm" migrate --control "$tmp/a" --recover --json >"$tmp/recovery"
jq -e '.phase == "done" and .recoveries == 1' "$tmp/recovery" >/dev/null || fail "$(cat "$tmp/recovery")"
finish_run
