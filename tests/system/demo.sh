#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 240
#
# make demo, small: every figure of its summary is there, and every page was what it should be.
. "$(dirname "$0")/../functions.sh"

export BUILD MEMORY=16M CHECK=500 TMPDIR=$tmp
for accel in auto thread; do
	ACCEL=$accel "$top/tools/demo" >"$tmp/demo.log" 2>&1 || fail "the demo with --accel $accel"
	for line in 'trap  ' 'accelerator  ' 'page by page  ' 'eagerly  ' '  (hit|miss|joined) .* us' \
		'demand [0-9]+, around [0-9]+, fill [0-9]+' 'checked 5[0-9]+ pages: 0 did not match'; do
		grep -Eq "$line" "$tmp/demo.log" || fail "its summary lacks: $line"
	done
done
