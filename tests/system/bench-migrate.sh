#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 240
# builds: plain (the figures of a sanitizer build would say nothing)
#
# The benchmarks of a migration run, and every aim that there is has a row that says the ratio, the aim and
# whether it is met. Whether they are is not asked here: that is for a machine that does nothing else.
. "$(dirname "$0")/../functions.sh"
requires uffd

"$BUILD/bench/bench-migrate" --quick --rounds 1 >"$tmp/rows.json" || fail "bench-migrate"
jq -e '([.[].name] - ["push", "follow", "downtime", "downtime-told", "demand-busy", "demand-p99", "release-clean",
	"release-0.1%", "release-2%"] == []) and length == 9 and all(.[]; .ours > 0 and .beside > 0 and
	(.ours / .beside - .ratio | fabs) < 0.001 and (.within | type) == "boolean")' "$tmp/rows.json" >/dev/null ||
	fail "$(cat "$tmp/rows.json")"
aims=$(jq -c 'map(select(.limit > 0) | {(.name): .limit}) | add' "$tmp/rows.json")
jq -e '. == {push: 0.8, follow: 0.8, downtime: 1.5, "downtime-told": 1.5, "demand-busy": 3, "release-clean": 0.33,
	"release-0.1%": 0.33}' <<<"$aims" >/dev/null || fail "other aims: $aims"
# At least, for what is a speed; at most, for what is a time.
jq -e 'all(.[] | select(.limit > 0); .within ==
	(if .unit == "GiB/s" then .ratio >= .limit else .ratio <= .limit end))' "$tmp/rows.json" >/dev/null || fail "$(cat "$tmp/rows.json")"
