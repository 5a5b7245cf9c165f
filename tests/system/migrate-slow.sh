#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A slow link is not a lost one: what trickles in counts, also within a frame that takes longer than the other side's
# patience with silence. Who waits for a page gets it long before the memory is there.
#
# timeout: 240
# builds: plain asan (what is slow here is the link)
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

python3 -c 'import ctypes; ctypes.CDLL("libxxhash.so.0")' 2>/dev/null || skip other "no python3, or no libxxhash.so.0"

# through COMMAND... - a proxy between the two; $address becomes its
through() {
	rm -f "$tmp/proxy.log"
	start proxy "$@"
	wait_for 10 grep -q '^[0-9]' "$tmp/proxy.log"
	address=127.0.0.1:$(head -n 1 "$tmp/proxy.log")
}

# moves FROM TO OPTION... - and no connection is lost
moves() {
	migrates "$1" --max-downtime 60000 "${@:3}"
	jq -e '.phase == "done" and .recoveries == 0' "$tmp/$1.migration" >/dev/null ||
		fail "$(cat "$tmp/$1.migration")"
	kill "${started[proxy]}"
	ended proxy 10
}

runs a --accel thread --vcpus 2 --memory 4M --command stamp:light
at a command churn >/dev/null
wait_for 30 at_work a 100

# Most of its memory first, where the link takes so much and no more. The proxy takes 256 KiB at a time: that is
# what takes half a second here.
receives b --accel thread --timeout 4000
through "$BUILD/tests/system/link-proxy" "$address" --rate 524288
moves a b --mode hybrid --max-rounds 2 --timeout 4000

# Its memory last, from a link on which 128 KiB take two seconds. It gets on while most is still to come.
receives c --accel thread --timeout 1500
through "$top/tests/system/frame-proxy" "$address" trickle
start client "$vmm" migrate --control "$tmp/b" --to "$address" --mode postcopy --timeout 1500 --json
gets_on() {
	at c status | jq -e ".incoming.phase == \"following\" and .incoming.left > 0 and .progress > $before"
}
before=$(at b status | jq .progress)
wait_for 30 gets_on
ended client 150
((status == 0)) || fail "the migration failed: $(cat "$tmp/client.log")"
jq -e '.phase == "done" and .recoveries == 0' <(grep '^{' "$tmp/client.log") >/dev/null ||
	fail "$(cat "$tmp/client.log")"
ended b 20
kill "${started[proxy]}"
ended proxy 10
proves c
