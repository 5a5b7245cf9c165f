# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For the tests of the page worker: two workers, one that exports and one that imports.
. "$(dirname "${BASH_SOURCE[0]}")/functions.sh"

worker_client=$BUILD/tests/system/worker-client
size=$((16 * 1024 * 1024))
seed=11

says() {
	grep -qE -e "$2" "$tmp/$1.log"
}

ready_or_ended() {
	says "$1" 'waits for VMMs on' || has_ended "$1"
}

# worker NAME [OPTION...] - its socket is $tmp/NAME.sock
worker() {
	rm -f "$tmp/$1.log" # of one that had the name before
	start "$1" "$BUILD/faultline" worker --socket "$tmp/$1.sock" --log-level debug "${@:2}"
	wait_for 30 ready_or_ended "$1"
	running "$1" || fail "faultline worker ended at once"
}

# listening NAME - where it listens for other workers
listening() {
	sed -n 's/.*listens on \([^ ]*\) .*/\1/p' "$tmp/$1.log" | tail -n 1
}

# exporter NAME WORKER - a VMM that exports to it; its token is in $tmp/NAME.token
exporter() {
	[[ -p $tmp/$1.in ]] || mkfifo "$tmp/$1.in"
	"$worker_client" export "$tmp/$2.sock" $size $seed "$tmp/$1.token" <"$tmp/$1.in" \
		>"$tmp/$1.log" 2>&1 &
	started[$1]=$!
	# shellcheck disable=SC2034 # for the test to close
	exec {exporter_in}>"$tmp/$1.in"
	wait_for 30 test -s "$tmp/$1.token"
}

# importer NAME WORKER ADDRESS MODE THREADS [again] - a VMM that imports, in the background
importer() {
	start "$1" timeout 100 "$worker_client" import "$tmp/$2.sock" "$3" $size $seed \
		"$tmp/vm.token" "${@:4}"
}

imported_or_ended() {
	says "$1" imported || has_ended "$1"
}

# was_right NAME - it ends with success
was_right() {
	ended "$1" 100
	((status == 0)) || fail "$1 ended with status $status"
	says "$1" '^right: ' || fail "$1 has not looked at everything"
}

# was_told NAME ERROR - it ends with this error
was_told() {
	ended "$1" 60
	((status == 3)) || fail "$1 ended with status $status"
	says "$1" "$2" || fail "$1 was not told of $2"
}
