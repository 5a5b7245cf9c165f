#!/bin/bash
# SPDX-License-Identifier: MIT
# The connection is cut after the switch: both sides keep what they have, meet again by either side's
# asking, and nothing is lost.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

through() { # OPTION... - a proxy between the two; $address becomes its
	start proxy "$BUILD/tests/system/link-proxy" "$address" "$@"
	wait_for 10 grep -q . "$tmp/proxy.log"
	address=127.0.0.1:$(grep -oE '[0-9]+' "$tmp/proxy.log" | head -n 1)
}

lost() { # a machine at work, moved so that the connection is lost on the way
	runs a --accel thread --vcpus 2 --memory 32M --command stamp:light
	at a command churn >/dev/null
	wait_for 20 at_work a 100
	receives b
	target=$address
	through --cut 8000000
	refused "$vmm" migrate --control "$tmp/a" --to "$address" --mode postcopy --json
	contains "$output" '^faultline-vmm migrate: .'
	wait_for 20 phase_is a lost
	wait_for 20 phase_is b lost
	at b status | jq -e '.state == "running" and .incoming.left > 0' >/dev/null || fail "$(at b status)"
}

whole() { # NAME of the client's answer
	jq -e '.ok and .phase == "done" and .recoveries == 1' "$tmp/$1" >/dev/null || fail "$(cat "$tmp/$1")"
	wait_for 20 phase_is b "done"
	ended a 20
	((status == 0)) || fail "the source ended with $status"
	proves b
	kill "${started[proxy]}"
	ended proxy 10
	rm -f "$tmp"/a* "$tmp"/b* "$tmp"/proxy*
}

# The source connects, to where it went
lost
refused "$vmm" migrate --control "$tmp/a" --recover --to 127.0.0.1:1
contains "$output" '[Rr]efused'
wait_for 20 phase_is a lost
"$vmm" migrate --control "$tmp/a" --recover --json >"$tmp/recovery"
whole recovery

# The source connects to another address
lost
"$vmm" migrate --control "$tmp/a" --recover --to "$target" --json >"$tmp/recovery"
whole recovery

# The target connects, to where the source listens
lost
refused "$vmm" migrate --control "$tmp/b" --recover
contains "$output" 'wants --to HOST:PORT'
refused timeout 30 "$vmm" migrate --control "$tmp/b" --recover --to 127.0.0.1:1
contains "$output" '[Rr]efused'
wait_for 20 phase_is b lost
start waiter bash -c 'to_file "$@"' to_file "$tmp/recovery" "$vmm" migrate --control "$tmp/a" --recover \
	--listen 127.0.0.1:0 --json
listening() {
	address=$("$vmm" migrate --control "$tmp/a" --status --json | jq -er .listening)
}
wait_for 10 listening
"$vmm" migrate --control "$tmp/b" --recover --to "$address" --json | jq -e '.phase == "done"' >/dev/null
ended waiter 20
((status == 0)) || fail "the waiting side ended with $status"
whole recovery
