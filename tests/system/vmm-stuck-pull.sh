#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 240
# A snapshot that waits for pages of a daemon that sleeps, or is dead: status is answered meanwhile,
# other requests are refused, and quit or SIGTERM ends it all, leaving nothing behind.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

restore() { # NAME OPTION...
	rm -f "$tmp/sock" # of a daemon that was killed
	serve "daemon-$1" "$tmp/sock" --memory "$tmp/s/memory" --no-release
	start "$1" "$vmm" restore "$tmp/s" --uffd "$tmp/sock" --accel thread --command verify:pages=20 "${@:2}"
}

is_busy() {
	local said
	said=$(ask command stop 2>&1) || :
	[[ $said = *'busy with a request: snapshot'* ]]
}

start_snapshot() { # NAME DIR
	start "$1" "$vmm" snapshot --control "$tmp/control" "$2"
	wait_for 30 is_busy
	[[ $(timeout 10 "$vmm" control --control "$tmp/control" --json status | jq -r .state) != '' ]] ||
		fail "no status during a snapshot"
	running "$1" || fail "the snapshot did not wait"
}

nothing_left() {
	! compgen -G "$tmp/$1*" >/dev/null || fail "left behind: $(echo "$tmp/$1"*)"
}

"$vmm" run --accel thread --vcpus 2 --memory 32M --command stamp --snapshot "$tmp/s" >/dev/null

# Asleep, and awake again: the snapshot is whole.
restore asleep --control "$tmp/control"
wait_for 30 is_idle
kill -STOP "${started[daemon-asleep]}"
start_snapshot taker "$tmp/whole"
refused ask pause
contains "$output" 'busy with a request: snapshot'
kill -CONT "${started[daemon-asleep]}"
ended taker 60
((status == 0)) || fail "status $status of the snapshot"
cmp <(above "$tmp/s/memory") <(above "$tmp/whole/memory") || fail "not whole"

# Everything was there, a page was given back, and the daemon died: the directory is begun already.
ask command discard:4M,4K >/dev/null
kill -KILL "${started[daemon-asleep]}"
ended daemon-asleep 10
start_snapshot taker "$tmp/begun"
wait_for 30 compgen -G "$tmp/begun.partial-*"
ask quit >/dev/null
ended taker 30
((status == 1)) || fail "status $status of a snapshot that was given up"
contains "$(cat "$tmp/taker.log")" 'given up, for the machine is ending'
ended asleep 30
((status == 1)) || fail "status $status"
contains "$(cat "$tmp/asleep.log")" 'a snapshot did not end: it waits for a page'
nothing_left begun
[[ ! -e $tmp/control ]] || fail "the socket was left behind"

# Dead in the middle of the pull.
for how in quit TERM; do
	restore "$how" --control "$tmp/control"
	wait_for 30 is_idle
	kill -KILL "${started[daemon-$how]}"
	ended "daemon-$how" 10
	start_snapshot "taker-$how" "$tmp/never"
	if [[ $how = quit ]]; then ask quit >/dev/null; else kill -TERM "${started[$how]}"; fi
	ended "taker-$how" 30
	((status == 1)) || fail "status $status of a snapshot that was given up ($how)"
	contains "$(cat "$tmp/taker-$how.log")" 'given up, .*: pages are missing that nobody brings'
	ended "$how" 30
	((status == 1)) || fail "status $status ($how)"
	nothing_left never
done

# The same for a snapshot of the command line. What churn and stop need is there after a few rounds.
restore line --command churn --control "$tmp/control" --snapshot "$tmp/never"
wait_for 30 progress_over 5000
kill -KILL "${started[daemon-line]}"
ended daemon-line 10
ask command stop >/dev/null
wait_for 30 is_idle
kill -TERM "${started[line]}"
ended line 30
((status == 1)) || fail "status $status (line)"
contains "$(cat "$tmp/line.log")" 'restore: snapshot .*/never: .*the machine is ending'
nothing_left never

# Nobody brings a single page: who waits for a result waits, and nobody else with him.
cat >"$tmp/deaf.py" <<'PYTHON'
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print('listens', flush=True)
peer, _ = listener.accept()
kept = socket.recv_fds(peer, 65536, 4)
peer.recv(1)
PYTHON
start deaf python3 "$tmp/deaf.py" "$tmp/deaf.sock"
wait_for 20 grep -q listens "$tmp/deaf.log"
start pageless "$vmm" restore "$tmp/s" --uffd "$tmp/deaf.sock" --accel thread --control "$tmp/control"
wait_for 20 ask status
start asker timeout 60 "$vmm" control --control "$tmp/control" wait
asked() {
	local said
	said=$(timeout 10 "$vmm" control --control "$tmp/control" --json command stop 2>&1) || :
	[[ $said = *'busy with a request'* ]]
}
wait_for 20 asked
timeout 10 "$vmm" control --control "$tmp/control" --json status | jq -e '.state == "running"' >/dev/null ||
	fail "no status while a result is waited for"
running asker || fail "there was a result without a page"
ask quit >/dev/null
ended pageless 30
((status == 1)) || fail "status $status (pageless)"
