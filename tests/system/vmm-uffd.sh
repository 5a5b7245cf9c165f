#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# A lazy restore through the daemon: each form of the handshake, memory given back on the way, and a
# snapshot of a machine that is not all there yet.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd

lazily() { # ACCEL OPTION... - restores $tmp/ACCEL through the daemon, into $tmp/r
	"$vmm" restore "$tmp/$1" --uffd "$tmp/socket" --accel "$1" --json "${@:2}" >"$tmp/r" 2>"$tmp/r.err"
	clean "$tmp/r"
	[[ $(value "$tmp/r" '.pages_verified > 0') = true ]] || fail "nothing was verified"
	[[ $(value "$tmp/r" .how) = uffd ]] || fail "how: $(cat "$tmp/r")"
}

for accel in $(accels); do
	"$vmm" run --accel "$accel" --vcpus 2 --memory "$(memory_for "$accel")" --hole 6M \
		--command stamp:light,fill=80 --snapshot "$tmp/$accel" >/dev/null
	serve daemon "$tmp/socket" --memory "$tmp/$accel/memory" --around 0
	for form in both kib none; do
		lazily "$accel" --form $form --command verify:random,shared
	done
	lazily "$accel" --backing memfd --command verify:pages=40 --command discard:4M,1M --command verify
	lazily "$accel" --command verify:pages=40 --command discard:4M,1M --command verify:random
	[[ $(value "$tmp/r" '.commands[1].zero >= 256') = true ]] || fail "discarded pages came back"

	lazily "$accel" --command verify:random,pages=30 --snapshot "$tmp/$accel-2"
	contains "$(cat "$tmp/r.err")" 'pulling missing pages'
	cmp <(above "$tmp/$accel/memory") <(above "$tmp/$accel-2/memory") || fail "not whole"

	# Asked for through the control socket, while the guest works.
	start vmm "$vmm" restore "$tmp/$accel" --uffd "$tmp/socket" --accel "$accel" \
		--control "$tmp/control"
	wait_for 20 is_idle
	ask command churn:pages=10 >/dev/null
	wait_for 60 progress_over 20
	ask snapshot "$tmp/$accel-3" >/dev/null
	stop vmm
	"$vmm" restore "$tmp/$accel-3" --eager --accel "$accel" --json --command stop \
		--command verify:random >"$tmp/r"
	clean "$tmp/r"
	stop daemon
done

# Nobody there: one line, and no waiting.
refused "$vmm" restore "$tmp/thread" --uffd "$tmp/none" --accel thread
contains "$output" "connect to the handler's socket $tmp/none: No such file"

# The handler dies while the guest waits for a page. It freezes, it never reads zeros; and the VMM
# still ends when it is told to, saying why it could not do so in order.
serve daemon "$tmp/socket" --memory "$tmp/thread/memory" --around 0 --on-failure leave
start vmm "$vmm" restore "$tmp/thread" --uffd "$tmp/socket" --accel thread --control "$tmp/control"
wait_for 20 is_idle
kill -KILL "${started[daemon]}"
ended daemon 10
ask command verify:random >/dev/null
kill -TERM "${started[vmm]}"
ended vmm 20
((status == 1)) || fail "exit status $status"
contains "$(cat "$tmp/vmm.log")" 'it waits for a page that nobody brings'
