#!/bin/bash
# SPDX-License-Identifier: MIT
# faultline-firecracker-handler as Firecracker's tests drive one: copied into a jail with nothing
# else, started with positional arguments, heard on standard output.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

program=$BUILD/faultline-firecracker-handler
image mem $((8 * MiB)) 1
mkdir "$tmp/jail"
if ((EUID == 0)) && ! ldd "$program" >/dev/null 2>&1; then
	cp "$program" "$tmp/jail/on_demand_handler"
	cp "$program" "$tmp/jail/fault_all_handler"
	in=/
	run() {
		start "$1" chroot "$tmp/jail" "/$2" "${@:3}"
	}
else
	ln -s "$program" "$tmp/jail/on_demand_handler"
	ln -s "$program" "$tmp/jail/fault_all_handler"
	in=$tmp/jail/
	run() {
		start "$1" "$tmp/jail/$2" "${@:3}"
	}
fi
cp "$tmp/mem" "$tmp/jail/mem"
sock=$tmp/jail/firecracker-uffd.sock

# handler NAME PROGRAM - and it listens
handler() {
	run "$1" "$2" "${in}firecracker-uffd.sock" "${in}mem" "${@:3}"
	wait_for 30 test -S "$sock"
	wait_for 30 socket_answers
}
socket_answers() {
	# The handler goes on waiting after a peer that says nothing.
	socat -u OPEN:/dev/null "UNIX-CONNECT:$sock"
}

handler demand on_demand_handler "${in}apf.socket"
"$client" --form kib "$sock" "$tmp/mem" touch:2 remove:0,65536 storm:2,100
ended demand 20
((status == 0)) || fail "status $status"
grep -q 'attached: 8 MiB in 1 region from' "$tmp/demand.log" || fail "it did not say so"
[[ ! -e $sock ]] || fail "it left its socket"

# Everything at once; the very first thing that is said is how long that took.
handler all fault_all_handler
vmm one "$sock" "$tmp/mem" say:begun wait touch:2
says all '^Finished Faulting All: [0-9]+us$'
[[ $(head -n 1 "$tmp/all.log") =~ ^Finished\ Faulting\ All:\ [0-9]+us$ ]] ||
	fail "something was said before"
go one
finishes one
ended all 20
((status == 0)) || fail "status $status"

# It dies: nobody else can serve this VM, so it ends with its handler's failure.
truncate -s 4M "$tmp/jail/mem"
handler short on_demand_handler
vmm two "$sock" "$tmp/mem" wait
killed two
ended short 20
((status == 1)) || fail "status $status"
grep -q 'lies beyond the image' "$tmp/short.log" || fail "it did not say why"

# A VMM that is killed ends its handler.
handler orphan on_demand_handler
vmm three --size $((4 * MiB)) --hang-up "$sock" "$tmp/mem" touch:1 say:done wait
says three 'done'
running orphan || fail "EOF on the socket ended it"
kill -KILL "${started[three]}"
killed three
ended orphan 20
((status == 0)) || fail "status $status"

# Wrong usage.
refused "$program"
contains "$output" 'usage: '
refused "$program" "$tmp/x.sock"
refused "$program" "$tmp/x.sock" "$tmp/none"
contains "$output" "$tmp/none"
contains "$("$program" --version)" '^faultline-firecracker-handler [0-9.]+$'
