#!/bin/bash
# SPDX-License-Identifier: MIT
# Without /dev/kvm and /dev/userfaultfd, and without privilege: --accel auto takes threads and says
# so, and a userfaultfd for user-mode faults is enough for a lazy restore and a whole snapshot.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires root uffd
unshare -m true 2>/dev/null || skip other "no mount namespace may be made"

# bare COMMAND... - as nobody, with nothing in /dev but null
bare() {
	touch "$tmp/null"
	unshare -m bash -c 'mount --bind /dev/null "$1" && mount -t tmpfs none /dev &&
		touch /dev/null && mount --bind "$1" /dev/null && shift &&
		exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all \
			"$@"' bash "$tmp/null" "$@"
}

mkdir "$tmp/bin" "$tmp/nobody"
cp "$vmm" "$tmp/bin"
chown 65534 "$tmp/nobody"
chmod 755 "$tmp"
bare true || skip other "setpriv or mount is refused"
nobody=$tmp/bin/faultline-vmm

bare "$nobody" run --memory 8M --vcpus 2 --json --command stamp --command verify:random \
	--snapshot "$tmp/nobody/s" >"$tmp/run" 2>"$tmp/err"
clean "$tmp/run"
[[ $(value "$tmp/run" .accel) = thread ]] || fail "not on threads"
contains "$(cat "$tmp/err")" '/dev/kvm: No such file or directory: running the payload on threads'
refused bare "$nobody" run --memory 8M --accel kvm
contains "$output" '/dev/kvm \(try --accel thread\): No such file'
refused bare "$nobody" restore "$tmp/nobody/s" --inside --trap uffd --accel kvm
contains "$output" 'pager inside: userfaultfd: '

serve daemon "$tmp/socket" --memory "$tmp/nobody/s/memory" --around 0
chmod 666 "$tmp/socket"
bare "$nobody" restore "$tmp/nobody/s" --uffd "$tmp/socket" --json --command verify:pages=30 \
	--snapshot "$tmp/nobody/s2" >"$tmp/restore" 2>/dev/null
clean "$tmp/restore"
cmp <(above "$tmp/nobody/s/memory") <(above "$tmp/nobody/s2/memory") || fail "not whole"
bare "$nobody" restore "$tmp/nobody/s" --inside --json --command verify:random >"$tmp/inside" 2>/dev/null
clean "$tmp/inside"
