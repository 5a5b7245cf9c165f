#!/bin/bash
# SPDX-License-Identifier: MIT
# The control socket and who uses it: stat as a table and as JSON, fill, wrong requests, peers that
# do not read; top on a terminal.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

# A name that is not UTF-8, and so cannot be said in JSON as it is.
image $'a\xff' $((4 * MiB)) 1
ln -s $'a\xff' "$tmp/a"
daemon d --socket "$tmp/a.sock" --memory "$tmp/"$'a\xff' --filter stats --no-release
[[ $(stat -c %a "$tmp/d.control") = 600 ]] || fail "others may connect"
vmm one --regions 3 "$tmp/a.sock" "$tmp/a" read:0,65536 say:begun wait
says one begun

stat_is d '.version and .pid and (.uptime_ms >= 0) and (.draining | not)'
stat_is d ".pid == ${started[d]}"
stat_is d ".sessions == [.sessions[] | select(.pid == ${started[one]} and .regions == 3
	and .bytes == 4194304 and .state == \"serving\" and .pages.total == 1024
	and .pages.left == 1008 and .pages.demand == 1 and .pages.around == 15
	and .faults.hit.count + .faults.miss.count == 1 and .session == 1)]"
stat_is d '.sessions[0].memory | endswith("/a?")'
stat_is d '.images[0].filters == "stats" and .images[0].reads.bytes >= 65536'

table=$("$faultline" stat --control "$tmp/d.control")
contains "$table" "^faultline [0-9.]+, pid ${started[d]}, up "
contains "$table" "^sessions: 1 now, 1 accepted"
contains "$table" "^ +1 +${started[one]} serving +4.0 MiB +1.6% +1 "

contains "$(control d '{"command":"fill","session":1}')" '^\{"ok":true\}$'
becomes d '.sessions[0] | .state == "full" and .pages.left == 0 and .pages.fill == 1008'

contains "$(control d '{"command":"fill","session":7}')" 'no such session'
contains "$(control d '{"command":"fill"}')" '"session.*must be'
contains "$(control d '{"command":"fill","session":"1"}')" '"session.*must be'
contains "$(control d '{"command":"dance"}')" 'no such command'
contains "$(control d '{"command":7}')" 'must be a string'
contains "$(control d '["stat"]')" 'must be a string'
contains "$(control d 'stat')" 'not a JSON object'
contains "$(head -c 4096 /dev/zero | tr '\0' x | socat -t 10 - "UNIX-CONNECT:$tmp/d.control")" \
	'too long'
# Several in one go are answered in their order.
[[ $(printf '%s\n' '{"command":"sessions"}' '{"command":"x"}' '{"command":"stat"}' |
	socat -t 10 - "UNIX-CONNECT:$tmp/d.control" | jq -c keys_unsorted[0]) = $'"sessions"\n"error"\n"version"' ]]

# Peers that ask and do not read, and peers that say nothing, hold up nobody.
before=$(descriptors "${started[d]}")
for i in {1..8}; do
	start "mute$i" socat -u "EXEC:yes {\\\"command\\\"\\:\\\"stat\\\"}" "UNIX-CONNECT:$tmp/d.control"
	start "dumb$i" socat "UNIX-CONNECT:$tmp/d.control" 'EXEC:sleep 1000'
done
becomes d '.sessions | length == 1'
"$client" "$tmp/a.sock" "$tmp/a" touch:1
for i in {1..8}; do
	kill -KILL "${started[mute$i]}" "${started[dumb$i]}"
	ended "mute$i" 10
	ended "dumb$i" 10
done
same() {
	[[ $(descriptors "${started[d]}") -eq $before ]]
}
wait_for 20 same

# Live, on a terminal; without one it says so.
refused "$faultline" top --control "$tmp/d.control"
contains "$output" 'needs a terminal'
mkfifo "$tmp/keys"
TERM=xterm start top socat "$tmp/keys!!STDOUT" \
	"EXEC:$faultline top --control $tmp/d.control,pty,setsid,ctty"
exec {keys}>"$tmp/keys"
says top "pid ${started[d]}"
says top SESSION
echo -n q >&$keys
ended top 20
((status == 0)) || fail "top ended with status $status"
exec {keys}>&-
go one
finishes one
contains "$(control d '{"command":"drain"}')" '^\{"ok":true\}$'
ended d 20
((status == 0)) || fail "status $status"
refused "$faultline" stat --control "$tmp/d.control"
contains "$output" "no daemon answers on $tmp/d.control"
