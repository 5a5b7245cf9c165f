#!/bin/bash
# SPDX-License-Identifier: MIT
# Exit status 2 and a line that names what is wrong; help on stdout.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"

usage() { # PATTERN ARGUMENT...
	local pattern=$1
	shift
	refused "$vmm" "$@"
	((status == 2)) || fail "exit status $status, not 2: $*"
	contains "$output" "$pattern"
}

usage 'usage: faultline-vmm VERB'
usage 'fly: no such verb' fly
usage '--wings: no such option' run --wings
usage '--memory: SIZE: lots' run --memory lots
usage '--memory: wants a value: SIZE' run --memory
usage '--accel: auto\|kvm\|thread: abacus' run --accel abacus
usage '--vcpus: wants 1 to 64' run --vcpus 65
usage '--vcpus: wants 1 to 64' run --vcpus 0
usage 'memory size 1048576: wants 4M to 64G' run --memory 1M
usage 'memory size 4194305: wants' run --memory 4194305
usage 'hole at 1048576: wants 4M to 3G' run --hole 1M
usage '--backing: anon.memfd.hugetlbfs: paper' restore "$tmp" --eager --backing paper
usage '--json=yes: takes no value' run --json=yes
usage 'one word too many' run here
usage 'command "paint": no such command' run --command paint
usage 'command "stamp:blue": no such option "blue"' run --command stamp:blue
usage 'command "stamp:fill=101": number out of range in "fill"' run --command stamp:fill=101
usage 'command "verify:stride": wrong form of option "stride"' run --command verify:stride
usage 'command "verify:rounds=1": no such option "rounds"' run --command verify:rounds=1
usage 'wants discard:GPA,LEN' run --command discard:4M
usage 'missing: DIR' restore --eager
usage 'wants one of --uffd SOCKET, --eager and --inside' restore "$tmp"
usage 'wants one of' restore "$tmp" --eager --inside
usage '--trap goes with --inside' restore "$tmp" --eager --trap segv
usage '--fill goes with --inside' restore "$tmp" --eager --fill
usage 'stop: no such request: wants status, pause' control --control "$tmp/c" stop
usage 'command: wants an argument' control --control "$tmp/c" command
usage 'status: takes no argument' control --control "$tmp/c" status now
usage 'control PATH is missing' snapshot "$tmp/s"
usage 'missing' control --control "$tmp/c"

# The man page names, in each verb's part, the options of its --help, and knows none that there is not.
page=$top/man/faultline-vmm.1.scd
for verb in run snapshot restore receive migrate control; do
	"$vmm" $verb --help >"$tmp/help"
	contains "$(cat "$tmp/help")" "usage: faultline-vmm $verb"
	sed -n 's/^  --\([a-z-]*\).*/--\1/p' "$tmp/help" | sort >"$tmp/options"
	grep -q '^--help$' "$tmp/options" || fail "the help of $verb lists no options"
	{
		sed -n "/^# ${verb^^}$/,/^# /p" "$page"
		sed -n "s/^\\*faultline-vmm $verb\\*//p" "$page"
	} >"$tmp/part"
	while read -r option; do
		[[ $option = --help ]] || grep -q "\*$option\*" "$tmp/part" ||
			fail "the man page does not name $option at $verb"
	done <"$tmp/options"
	while read -r option; do
		grep -qxe "$option" "$tmp/options" || fail "the man page's $verb has $option, which is not there"
	done < <(sed -n 's/^\*\(--[a-z-]*\)\*.*/\1/p' "$tmp/part")
done

# Text that was lost is no success.
for words in --help --version 'run --help' 'run --accel thread --memory 4M --json' \
	'run --accel thread --memory 4M --command stamp'; do
	status=0
	# shellcheck disable=SC2086 # words
	"$vmm" $words >/dev/full 2>"$tmp/lost.log" || status=$?
	((status == 1)) || fail "status $status, not 1, for lost output: $words"
	contains "$(cat "$tmp/lost.log")" 'write to stdout: '
done
contains "$("$vmm" run --help)" 'stamp    write self-describing pages'
contains "$("$vmm" --version)" '^faultline-vmm [0-9]'

fails() { # PATTERN ARGUMENT... - status 1
	local pattern=$1
	shift
	refused "$vmm" "$@"
	((status == 1)) || fail "exit status $status, not 1: $*"
	contains "$output" "$pattern"
}

fails 'discard of gpa 0x0: the payload lives below' run --accel thread --command discard:0,4K
fails 'discard of gpa 0x10000000, .*not inside guest memory' \
	run --accel thread --command discard:256M,4K
fails 'discard of gpa 0x200001, .*not whole pages' run --accel thread --command discard:0x200001,4K
fails 'control socket .*/none: No such file' snapshot --control "$tmp/none" "$tmp/s"
fails 'refused: a machine.s churn area' run --accel thread --memory 4M --command churn:pages=4,rounds=1 \
	--command churn:pages=5,rounds=1
