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

# at NAME WHAT... - the VMM whose control socket is $tmp/NAME
at() {
	"$vmm" control --control "$tmp/$1" --json "${@:2}"
}

# at_work NAME PAGES - it has done more than so many pages of its command
at_work() {
	at "$1" status | jq -e ".busy and .progress > $2"
}

# idle NAME - it has run all its commands
idle() {
	at "$1" status | jq -e '.busy | not'
}

# to_file FILE COMMAND... - its standard output alone
to_file() {
	exec "${@:2}" >"$1"
}
export -f to_file

# runs NAME OPTION... - a machine that listens on $tmp/NAME and reports to $tmp/NAME.json
runs() {
	rm -f "$tmp/$1.log" # of one that had the name before
	start "$1" bash -c 'to_file "$@"' to_file "$tmp/$1.json" "$vmm" run --control "$tmp/$1" --json \
		"${@:2}"
	wait_for 30 idle "$1"
}

# receives NAME OPTION... - likewise one that waits for a machine; $address is where
receives() {
	rm -f "$tmp/$1.log"
	start "$1" bash -c 'to_file "$@"' to_file "$tmp/$1.json" "$vmm" receive --listen 127.0.0.1:0 \
		--control "$tmp/$1" --json "${@:2}"
	wait_for 20 grep -q '^listening on ' "$tmp/$1.log"
	address=$(sed -n 's/^listening on //p' "$tmp/$1.log")
}

# migrates NAME OPTION... - to $address, and it must succeed
migrates() {
	"$vmm" migrate --control "$tmp/$1" --to "$address" --json "${@:2}" >"$tmp/$1.migration" ||
		fail "migrate from $1: $(cat "$tmp/$1.migration")"
	ended "$1" 20
	((status == 0)) || fail "$1 ended with status $status after its machine had gone"
	jq -e '.migrated and .mismatches == 0' "$tmp/$1.json" >/dev/null || fail "$(cat "$tmp/$1.json")"
}

# phase_is NAME PHASE - of its last migration
phase_is() {
	[[ $("$vmm" migrate --control "$tmp/$1" --status --json | jq -r .phase) = "$2" ]]
}

# proves NAME - its churn is stopped, all is verified, nothing is found wrong, and it ends
proves() {
	at "$1" command stop >"$tmp/$1.stop"
	jq -e '.ok and .mismatches == 0 and .rounds > 0 and .pages > 0' "$tmp/$1.stop" >/dev/null ||
		fail "stop: $(cat "$tmp/$1.stop")"
	at "$1" command verify:random --wait >"$tmp/$1.verify"
	jq -e '.ok and .mismatches == 0 and .stamped > 0 and .churned > 0 and .unknown == 0' \
		"$tmp/$1.verify" >/dev/null || fail "verify: $(cat "$tmp/$1.verify")"
	at "$1" quit >/dev/null
	ended "$1" 20
	((status == 0)) || fail "$1 ended with status $status"
}
