#!/bin/bash
# SPDX-License-Identifier: MIT
# Wrong usage is told in one line, with status 2; help and version go to standard output.
. "$(dirname "$0")/../serve-functions.sh"

image a 65536 1
s=(timeout 20 "$faultline" serve --control none)

# wrong PATTERN COMMAND...
wrong() {
	refused "${@:2}"
	contains "$output" "$1"
	((status == 2)) || fail "status $status, not 2: ${*:2}"
}

wrong 'usage: faultline COMMAND' "$faultline"
wrong "there is no command 'dance'" "$faultline" dance
wrong 'a --socket is needed' "${s[@]}"
wrong "socket $tmp/s has no --memory" "${s[@]}" --socket "$tmp/s"
wrong 'too many arguments' "${s[@]}" --socket "$tmp/s" --memory "$tmp/a" more
wrong "is not an option" "${s[@]}" --dance
wrong 'needs a value' "${s[@]}" --socket
wrong "around: .*not a size" "${s[@]}" --socket "$tmp/s" --memory "$tmp/a" --around 64KB
wrong "around: .*more than 2097152" "${s[@]}" --socket "$tmp/s" --memory "$tmp/a" --around 4M
wrong "around: .*power of two" "${s[@]}" --socket "$tmp/s" --memory "$tmp/a" --around 12K
wrong "timeout: .*not between" "${s[@]}" --socket "$tmp/s" --memory "$tmp/a" --timeout 0
wrong "on-failure: .*neither kill nor leave" "${s[@]}" --on-failure dance
wrong "log-level: .*is not error" "${s[@]}" --log-level loud
wrong "record $tmp/none/w: No such file" "${s[@]}" --socket "$tmp/s" --memory "$tmp/a" \
	--record "$tmp/none/w"
wrong "record $tmp: exists and is no file" "${s[@]}" --socket "$tmp/s" --memory "$tmp/a" \
	--record "$tmp"
wrong "record $tmp/w: for two sockets" "${s[@]}" --socket "$tmp/s" --memory "$tmp/a" \
	--record "$tmp/w" --socket "$tmp/t" --memory "$tmp/a" --record "$tmp/w"
wrong "too many" "$faultline" stat more
wrong "there is no command 'dance'" "$faultline" help dance
wrong 'no benchmark is called "dance"' "$faultline" bench --only dance

failing() {
	refused "${@:2}"
	contains "$output" "$1"
	((status == 1)) || fail "status $status, not 1: ${*:2}"
}
failing "$tmp/none: No such file" "${s[@]}" --socket "$tmp/s" --memory "$tmp/none"
failing "$tmp" "${s[@]}" --socket "$tmp/s" --memory "$tmp"
: >"$tmp/empty"
failing "$tmp/empty" "${s[@]}" --socket "$tmp/s" --memory "$tmp/empty"
failing 'nonsense' "${s[@]}" --socket "$tmp/s" --memory "$tmp/a" --filter nonsense
[[ ! -e $tmp/s ]] || fail "a socket was left behind"

for command in serve stat top probe; do
	contains "$("$faultline" "$command" --help)" "^usage: faultline $command "
	[[ $("$faultline" help "$command") = "$("$faultline" "$command" --help)" ]]
	contains "$("$faultline" --help)" "^  $command "
done
contains "$("$faultline" --version)" '^faultline [0-9]+\.[0-9]+\.[0-9]+$'
# What cannot be printed is a failure.
if [[ -e /dev/full ]]; then
	! "$faultline" help >/dev/full 2>/dev/null || fail "it did not notice a full disk"
fi
