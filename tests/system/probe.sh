#!/bin/bash
# SPDX-License-Identifier: MIT
# What the kernel offers: the table and the JSON say the same, and agree with what can be seen
# without us.
. "$(dirname "$0")/../serve-functions.sh"

"$faultline" probe --json >"$tmp/probe"
jq -e 'length > 10 and all(.name and .what and .use and (.offered | type == "boolean"))
	and ([.[].name] | unique | length) == length' "$tmp/probe" >/dev/null || fail "$(cat "$tmp/probe")"
jq -e 'all(.offered or .reason)' "$tmp/probe" >/dev/null
table=$("$faultline" probe)
while read -r offered name; do
	contains "$table" "^$([[ $offered = true ]] && echo yes || echo 'no ') +$name "
done < <(jq -r '.[] | "\(.offered) \(.name)"' "$tmp/probe")

# agrees REQUIREMENT NAME... - one of these is offered exactly when the machine has it
agrees() {
	local there=false
	"$BUILD/tests/require" "$1" >/dev/null && there=true
	jq -e --arg names "${*:2}" --argjson there $there \
		'[.[] | select(.name | IN($names | split(" ")[]))] | any(.offered) == $there' \
		"$tmp/probe" >/dev/null || fail "probe and tests/require disagree about $1"
}
agrees uffd uffd.device uffd.syscall
agrees uffd-poison uffd.poison
