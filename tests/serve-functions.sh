# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For the tests of the daemon: it, and VMMs that are as bad as a test wants (see
# system/uffd-client.c). Comes instead of functions.sh.
. "$(dirname "${BASH_SOURCE[0]}")/functions.sh"

client=$BUILD/tests/system/uffd-client
faultline=$BUILD/faultline
# shellcheck disable=SC2034 # for those who source this
MiB=1048576
output=
declare -A input=() # name -> descriptor of its standard input

# image NAME BYTES SEED [holes] - $tmp/NAME
image() {
	"$BUILD/tests/system/make-image" "$tmp/$1" "${@:2}"
}

# daemon NAME OPTION... - `faultline serve`, ready, with the control socket $tmp/NAME.control
daemon() {
	start "$1" "$faultline" serve --control "$tmp/$1.control" "${@:2}"
	wait_for 30 ready_or_ended "$1"
	running "$1" || fail "$1 ended at once"
}

ready_or_ended() {
	grep -q 'faultline: ready$' "$tmp/$1.log" || has_ended "$1"
}

# vmm NAME ARGUMENT... - a uffd-client in the background, whose "wait" is ended by go NAME
vmm() {
	local fd
	mkfifo "$tmp/$1.in"
	"$client" "${@:2}" >"$tmp/$1.log" 2>&1 <"$tmp/$1.in" &
	started[$1]=$!
	exec {fd}>"$tmp/$1.in"
	input[$1]=$fd
}

go() {
	echo >&"${input[$1]}"
}

# finishes NAME - it ends by itself, with success
finishes() {
	ended "$1" 60
	((status == 0)) || fail "$1 ended with status $status"
}

# killed NAME - it is ended by SIGKILL
killed() {
	ended "$1" 60
	((status == 137)) || fail "$1 ended with status $status, not by SIGKILL"
}

# says NAME PATTERN - sooner or later
says() {
	wait_for 60 grep -qE -e "$2" "$tmp/$1.log"
}

# silent NAME PATTERN - not up to now
silent() {
	! grep -E -e "$2" "$tmp/$1.log" || fail "$1 should not say '$2'"
}

# stat_is DAEMON FILTER - a jq filter that must be true of `faultline stat --json`
stat_is() {
	"$faultline" stat --json --control "$tmp/$1.control" >"$tmp/stat.json" &&
		jq -e "$2" "$tmp/stat.json" >/dev/null
}

# becomes DAEMON FILTER - likewise, sooner or later
becomes() {
	wait_for 60 stat_is "$1" "$2"
}

# all_gone DAEMON - no session is left
all_gone() {
	becomes "$1" '.sessions == []'
}

# control DAEMON REQUEST - its answer
control() {
	socat -t 10 - "UNIX-CONNECT:$tmp/$1.control" <<<"$2"
}
