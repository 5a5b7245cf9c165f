#!/bin/bash
# SPDX-License-Identifier: MIT
# A machine on pages of 2 MiB moves: whole pages are due, demanded and sent.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd uffd-minor hugetlb

wander() { # ACCEL MEMORY
	local mode from=m0 i=0
	runs m0 --accel "$1" --vcpus 2 --memory "$2" --backing hugetlbfs --command stamp:light
	at m0 command churn >/dev/null
	for mode in postcopy hybrid precopy; do
		receives "m$((++i))" --accel "$1"
		wait_for 30 at_work "$from" 20
		migrates "$from" --mode $mode --max-downtime 20000
		[[ $(value "$tmp/m$((i - 1)).json" .page_size) = 2097152 ]] || fail "small pages"
		from=m$i
	done
	proves "$from"
	rm "$tmp"/m*
}

for accel in $(accels); do
	wander "$accel" 12M
done
