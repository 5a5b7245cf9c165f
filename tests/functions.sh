# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For the scripts in tests/system. Each begins with
#
#	. "$(dirname "$0")/../functions.sh"
#
# and finds itself with errors fatal, in a folder of its own ($tmp, removed at the end), with the
# programs under test in $BUILD (build/ unless tests/run says otherwise). Whatever start started
# is dead when the script ends, and its output is shown when the script fails.
#
# Comments in the first lines of a script that tests/run reads:
#	# timeout: 300		seconds, instead of 120; a sanitizer build gets 2.5 times as much
#	# builds: plain asan	instead of all three; say why
#	# serial		nothing else runs at the same time
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$(cd "${BUILD:-$top/build}" && pwd)
tmp=$(mktemp -d "${TMPDIR:-/tmp}/faultline.XXXXXX")
export XDG_RUNTIME_DIR=$tmp # a control socket of its own for each test
declare -A started=() # name -> pid

finish() {
	local status=$? name
	trap - EXIT
	for name in "${!started[@]}"; do
		kill -KILL "${started[$name]}" 2>/dev/null || :
		wait "${started[$name]}" 2>/dev/null || :
	done
	if ((status != 0 && status != 77)); then
		for name in "$tmp"/*.log; do
			[[ ! -e $name ]] || { echo "--- ${name##*/}"; tail -n 40 "$name"; }
		done
	fi
	rm -rf "$tmp"
	exit "$status"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# fail WHAT... - the one way to say that a test failed
fail() {
	echo "FAIL: $*"
	exit 1
}

# skip REQUIREMENT REASON... - see tests/require.c for the words; "other" is the last resort
skip() {
	echo "SKIP $1: ${*:2}"
	exit 77
}

# requires REQUIREMENT... - skips unless the machine has them all
requires() {
	local need reason
	for need in "$@"; do
		reason=$("$BUILD/tests/require" "$need") || skip "$need" "$reason"
		# Tests that empty or fill the pool of large pages take turns.
		if [[ $need = hugetlb ]]; then
			exec {huge_pages_lock}</sys/kernel/mm/hugepages
			flock "$huge_pages_lock"
		fi
	done
}

# wait_for SECONDS COMMAND... - until COMMAND succeeds; fails the test when it has not in time
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || fail "still not so in time: $*"
		sleep 0.05
	done
}

# start NAME COMMAND... - in the background, with its output in $tmp/NAME.log
start() {
	local name=$1
	shift
	"$@" >"$tmp/$name.log" 2>&1 </dev/null &
	started[$name]=$!
}

# running NAME - is it?
running() {
	kill -0 "${started[$1]}" 2>/dev/null
}

has_ended() {
	! running "$1"
}

# ended NAME SECONDS - waits for what was started to end by itself; its status is in $status
ended() {
	wait_for "$2" has_ended "$1"
	status=0
	wait "${started[$1]}" || status=$?
	unset "started[$1]"
}

# stop NAME - SIGTERM, and it must end with success within 20 seconds
stop() {
	kill -TERM "${started[$1]}"
	ended "$1" 20
	((status == 0)) || fail "$1 ended with status $status after SIGTERM"
}

# is_listening SOCKET - somebody accepts connections there (flag __SO_ACCEPTCON)
is_listening() {
	awk -v path="$1" '$4 == "00010000" && $8 == path { found = 1 } END { exit !found }' \
		/proc/net/unix
}

listening_or_ended() {
	is_listening "$2" || has_ended "$1"
}

# serve NAME SOCKET [OPTION...] - starts `faultline serve` and waits until it listens; its control
# socket is $tmp/NAME.control unless an option says otherwise
serve() {
	start "$1" "$BUILD/faultline" serve --control "$tmp/$1.control" --socket "${@:2}"
	wait_for 20 listening_or_ended "$1" "$2"
	running "$1" || fail "faultline serve ended at once"
}

# refused COMMAND... - it must fail by its own decision, not by a signal; its output is in $output
refused() {
	status=0
	output=$("$@" 2>&1 </dev/null) || status=$?
	((status != 0)) || fail "succeeded, and should not: $*"
	((status < 124)) || fail "died with status $status: $*: $output"
}

# contains TEXT PATTERN - an extended regular expression
contains() {
	grep -qE -e "$2" <<<"$1" || fail "does not say '$2': $1"
}

# descriptors PID - how many it has open
descriptors() {
	find "/proc/$1/fd" -mindepth 1 | wc -l
}
