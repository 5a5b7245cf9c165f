#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The network breaks at every point of a migration: the connection is cut, or bytes are changed on
# the way, or nothing passes any more. Before GO the machine goes on where it was, after GO it is recovered; the
# guest finds nothing wrong, and every failure has a name.
#
# CUTS=N sets how many points are tried of each kind.
#
# timeout: 300
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

cuts=${CUTS:-12}
modes=(hybrid postcopy precopy)
declare -A seen=()
from=m0 next=1

through() { # OPTION... - a proxy between the two; $address becomes its
	start "proxy$next" "$BUILD/tests/system/link-proxy" "$address" "$@"
	wait_for 10 grep -q . "$tmp/proxy$next.log"
	address=127.0.0.1:$(grep -oE '[0-9]+' "$tmp/proxy$next.log" | head -n 1)
}

forget() { # NAME... - what is left of processes that have ended
	local name
	for name in "$@"; do
		rm -f "$tmp/$name" "$tmp/$name".*
	done
}

# The machine stays where it was, and the side it did not come to says why and ends.
stayed() {
	wait_for 20 phase_is "$from" failed
	at "$from" status | jq -e '.state == "running"' >/dev/null || fail "$(at "$from" status)"
	# A side that nobody has really met yet waits for the next to come; one that was READY cannot know
	# whether GO was on its way, and waits for its user.
	if phase_is "m$next" meeting 2>/dev/null || phase_is "m$next" lost 2>/dev/null; then
		at "m$next" quit >/dev/null
	fi
	ended "m$next" 30
	((status != 0)) || fail "the receiving side ended as if a machine had come"
	contains "$(cat "$tmp/m$next.log")" 'faultline-vmm receive: .'
}

# It is over there, without all of its memory.
recovered() {
	"$vmm" migrate --control "$tmp/$from" --recover --json >"$tmp/recovery" ||
		fail "recovery: $(cat "$tmp/recovery")"
	jq -e '.ok and .phase == "done" and .recoveries >= 1' "$tmp/recovery" >/dev/null ||
		fail "recovery: $(cat "$tmp/recovery")"
}

went() {
	wait_for 20 phase_is "m$next" "done"
	ended "$from" 20
	((status == 0)) || fail "$from ended with status $status after its machine had gone"
	forget "$from"
	from=m$next
}

# try PROXY-OPTION... - one migration over a network that does this; what becomes of it is counted
try() {
	local outcome="done"
	receives "m$next" --accel thread --timeout 2000
	through "$@"
	if ! "$vmm" migrate --control "$tmp/$from" --to "$address" --mode "${modes[next % 3]}" \
		--max-downtime 20000 --timeout 2000 --json >"$tmp/migration" 2>"$tmp/migration.err"; then
		outcome=$(jq -r '.phase' "$tmp/migration")
		[[ -s $tmp/migration.err ]] || fail "$*: no reason: $(cat "$tmp/migration")"
	fi
	case $outcome in
	done) went ;;
	failed) stayed ;;
	lost)
		recovered
		went
		;;
	*) fail "$*: $(cat "$tmp/migration" "$tmp/migration.err")" ;;
	esac
	seen[$outcome]=$((${seen[$outcome]:-0} + 1))
	kill "${started[proxy$next]}" 2>/dev/null || :
	ended "proxy$next" 10
	forget "proxy$next"
	[[ $outcome = failed ]] && forget "m$next"
	next=$((next + 1))
}

# How many bytes it is in all, about, when nothing happens.
runs m0 --accel thread --vcpus 2 --memory 16M --command stamp:light
at m0 command churn >/dev/null
try --rate 0
total=$(jq .bytes "$tmp/migration")

for ((i = 0; i < cuts; i++)); do
	# The first bytes are where the sides meet; then all over.
	if ((i < cuts / 4)); then
		at_byte=$((1 + i * 40 + RANDOM % 40))
	else
		at_byte=$((1 + (i * 4 - cuts) * total / (cuts * 3) + RANDOM % 1000))
	fi
	try --cut "$at_byte"
	try --flip "$at_byte" --way out
	try --flip $((1 + i * 24)) --way in
	((i % 4)) || try --mute "$at_byte"
done
proves "$from"
echo "outcomes: $(for outcome in "${!seen[@]}"; do echo -n "$outcome ${seen[$outcome]} "; done)"
for outcome in "done" failed lost; do
	[[ ${seen[$outcome]-} ]] || fail "nothing was ever $outcome: ${!seen[*]}"
done
