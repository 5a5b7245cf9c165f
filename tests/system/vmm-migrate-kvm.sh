#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 240
# As vmm-migrate.sh, on KVM: with the dirty log, the dirty ring, and write protection.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires kvm uffd

wander() { # VCPUS TRACKER MODE...
	local i=0 mode from=m0
	runs m0 --accel kvm --vcpus "$1" --memory "$(memory_for kvm)" --dirty "$2" --command stamp:light,fill=80
	at m0 command churn:pages=40 >/dev/null
	for mode in "${@:3}"; do
		receives "m$((++i))" --accel kvm --dirty "$2"
		wait_for 30 at_work "$from" 20
		migrates "$from" --mode "$mode" --max-downtime 20000
		[[ $(value "$tmp/$from.migration" .dirty_by) = "$2" ]] || fail "not by $2"
		from=m$i
	done
	proves "$from"
	rm "$tmp"/m*
}

wander 1 log precopy postcopy
wander 2 log hybrid precopy
wander 4 log hybrid
wander 2 wp hybrid
if "$vmm" run --accel kvm --memory 4M --dirty ring 2>"$tmp/no-ring"; then
	wander 2 ring hybrid precopy
	wander 4 ring postcopy
	# Unasked, too
	runs m0 --accel kvm --memory "$(memory_for kvm)" --command stamp:light,fill=80
	at m0 command churn:pages=40 >/dev/null
	receives m1 --accel kvm
	migrates m0
	[[ $(value "$tmp/m0.migration" .dirty_by) = ring ]] || fail "not by the ring: $(cat "$tmp/m0.migration")"
	proves m1
else
	contains "$(cat "$tmp/no-ring")" 'this KVM has none'
fi
