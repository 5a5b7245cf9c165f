#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What comes is not right: another version, a wrong sum, a page out of range, an unknown frame, nothing at
# all. Each has a name. Before GO the machine goes on where it was; after GO both keep what they have, and it is
# recovered. Frames of demand that overtake one another are none of these.
#
# timeout: 240
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd
python3 -c 'import ctypes; ctypes.CDLL("libxxhash.so.0")' 2>/dev/null || skip other "no python3, or no libxxhash.so.0"

from=m0 next=1

through() { # KIND [FRAME [NTH]] - a proxy between the two; $address becomes its
	start "proxy$next" "$top/tests/system/frame-proxy" "$address" "$@"
	wait_for 10 grep -q '^[0-9]' "$tmp/proxy$next.log"
	address=127.0.0.1:$(head -n 1 "$tmp/proxy$next.log")
}

# lies MODE KIND FRAME [NTH] - a migration over it, that does not succeed
lies() {
	receives "m$next" --accel thread --timeout 2000
	through "${@:2}"
	status=0
	"$vmm" migrate --control "$tmp/$from" --to "$address" --mode "$1" --max-downtime 20000 --timeout 2000 \
		>"$tmp/migration" 2>&1 || status=$?
	((status == 1)) || fail "status $status in spite of $*: $(cat "$tmp/migration")"
}

over() {
	kill "${started[proxy$next]}" 2>/dev/null || :
	ended "proxy$next" 10
	next=$((next + 1))
}

# Nothing has happened to the machine. PATTERN is what the user is told.
stays() { # PATTERN
	contains "$(cat "$tmp/migration")" "^faultline-vmm migrate: .*$1"
	wait_for 20 phase_is "$from" failed
	at "$from" status | jq -e '.state == "running" and .mismatches == 0' >/dev/null || fail "$(at "$from" status)"
	# One that nobody has met yet waits for the next to come; one that was READY, for its user.
	if ! has_ended "m$next"; then
		wait_for 20 decided
		has_ended "m$next" || at "m$next" quit >/dev/null 2>&1 || at "m$next" quit >/dev/null
	fi
	ended "m$next" 20
	((status == 1)) || fail "the receiving side ended with $status, and no machine came"
	over
}

decided() {
	has_ended "m$next" || phase_is "m$next" meeting || phase_is "m$next" lost
}

# It is over there, and comes after all. PATTERN is what one of them says of it.
recovers() { # PATTERN
	wait_for 20 phase_is "m$next" lost
	contains "$(cat "$tmp/migration" "$tmp/m$next.log" "$tmp/$from.log")" "$1"
	"$vmm" migrate --control "$tmp/$from" --recover --json >"$tmp/recovery" || fail "$(cat "$tmp/recovery")"
	jq -e '.ok and .phase == "done" and .recoveries == 1' "$tmp/recovery" >/dev/null || fail "$(cat "$tmp/recovery")"
	goes
}

goes() {
	ended "$from" 20
	((status == 0)) || fail "$from ended with $status after its machine had gone"
	from=m$next
	over
}

runs m0 --accel thread --vcpus 2 --memory 16M --command stamp:light
at m0 command churn >/dev/null

# Versions: both are said, by who refuses and to whom.
lies hybrid version HELLO
stays 'no version in common: .* 1 to 1, the other 7 to 9'
lies hybrid version WELCOME
stays 'no version in common: .* 1 to 1, the other 7 to 9'

# Before GO.
lies hybrid sum PREPARED
stays 'PREPARED: sum is [0-9a-f]+, must be [0-9a-f]+'
lies hybrid sum ROUND
stays 'ROUND: sum is [0-9a-f]+, must be [0-9a-f]+'
lies hybrid type ROUND
stays 'type 77'
lies hybrid type ROUND_ACK
stays 'type 77'
lies hybrid offset PAGES
stays 'PAGES: offset 0x1[0-9a-f]* is not in guest memory'
lies hybrid offset ZERO
stays 'ZERO: offset 0x1[0-9a-f]* is not in guest memory'
lies hybrid silence ROUND_ACK
stays '2000 ms'
lies hybrid silence STATE
stays '2000 ms'

# After it.
lies postcopy contents PAGES 20
recovers 'PAGES: wrong sum of the contents at offset 0x[0-9a-f]+'
lies postcopy offset PAGES 20
recovers 'PAGES: offset 0x1[0-9a-f]* is not in guest memory'
lies postcopy type REQUEST 20
recovers 'type 77'
lies postcopy offset REQUEST 20
recovers 'REQUEST on the .* connection: .* offset [0-9]+ are in no region'
lies postcopy sum DUE_END
recovers 'DUE_END: sum is [0-9a-f]+, must be [0-9a-f]+'
lies postcopy silence RUNNING
recovers '2000 ms'

# Demand in any order is as right as in any other.
for mode in postcopy hybrid; do
	receives "m$next" --accel thread
	through reorder
	migrates "$from" --mode $mode
	jq -e '.phase == "done" and .recoveries == 0' "$tmp/$from.migration" >/dev/null ||
		fail "$(cat "$tmp/$from.migration")"
	from=m$next
	over
done
proves "$from"
