#!/bin/bash
# SPDX-License-Identifier: MIT
# A guest that is whole was let go, and its VMM has unmapped it since: draining, or being asked to
# end, is no reason to kill that VMM.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image a $MiB 1
for options in "" --no-release; do
	# shellcheck disable=SC2086 # none is none
	daemon "d$options" --socket "$tmp/a.sock" --memory "$tmp/a" --log-level debug $options
	vmm "v$options" "$tmp/a.sock" "$tmp/a" touch:1 say:touched wait unmap:0 say:unmapped wait
	says "v$options" touched
	becomes "d$options" '[.sessions[] | select(.state == "full")] | length == 1'
	go "v$options"
	says "v$options" unmapped
	stop "d$options"
	silent "d$options" failed
	running "v$options" || fail "it was killed"
	go "v$options"
	finishes "v$options"
done
