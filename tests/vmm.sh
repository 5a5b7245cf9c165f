# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For tests/system/vmm-*.sh, after functions.sh.

# shellcheck disable=SC2154 # BUILD and tmp are functions.sh's
vmm=$BUILD/faultline-vmm

# memory_for ACCEL - a size that the accelerator gets through quickly: some KVMs interpret the guest
memory_for() {
	[[ $1 = kvm ]] && echo 8M || echo 32M
}

# accels - one a line: thread, and kvm where it is
accels() {
	echo thread
	! "$BUILD/tests/require" kvm >/dev/null || echo kvm
}

# value FILE FILTER - of a JSON report; fails the test when there is none
value() {
	jq -er "$2" "$1" || fail "no $2 in $(cat "$1")"
}

# clean FILE - a report of commands that all found what they should, and checked something
clean() {
	local ok
	ok=$(jq '.mismatches == 0 and .exit_status == 0 and (.commands | length > 0) and
		([.commands[] | .status == "ok" and .pages > 0] | all)' "$1")
	[[ $ok = true ]] || fail "not clean: $(cat "$1")"
}

# above FILE - the image without the payload's own part
above() {
	tail -c +$((2 * 1024 * 1024 + 1)) "$1"
}

# spoil FILE OFFSET - changes one byte, whatever it is
spoil() {
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1")
	# shellcheck disable=SC2059 # the octal escape is the point
	printf "\\$(printf '%03o' $((byte ^ 0x41)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# ask WHAT... - the VMM that listens on $tmp/control
ask() {
	"$vmm" control --control "$tmp/control" --json "$@"
}

# is_idle - that VMM has run all its commands so far
is_idle() {
	ask status | jq -e '.busy | not'
}

# progress_over N - and this one has done N pages of its command
progress_over() {
	ask status | jq -e ".progress > $1"
}
