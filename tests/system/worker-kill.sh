#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 240
# Each worker is killed while threads wait for pages: they are told, by name, and nobody hangs; with the worker
# back, the machine goes on where it was.
. "$(dirname "$0")/../worker-functions.sh"
requires uffd-minor
size=$((64 * 1024 * 1024))

# An address of its own: the port is still free when the worker comes back.
worker a --listen "127.$((1 + $$ / 62500)).$((1 + $$ / 250 % 250)).$((1 + $$ % 250)):0"
at=$(listening a)
worker b
exporter vm a

# killed NAME - SIGKILL, and gone
killed() {
	kill -KILL "${started[$1]}"
	ended "$1" 20
}

for mode in copy fault; do
	importer "told-$mode" b "$at" $mode 4
	wait_for 30 imported_or_ended "told-$mode"
	killed b
	was_told "told-$mode" 'copying: EPIPE'
	worker b
done

for mode in copy fault; do
	importer "cut-$mode" b "$at" $mode 4
	wait_for 30 imported_or_ended "cut-$mode"
	killed a
	was_told "cut-$mode" 'copying: ECONNRESET'
	rm "$tmp/vm.token"
	worker a --listen "$at"
	wait_for 30 test -s "$tmp/vm.token"
done

mended_or_ended() {
	(($(grep -c mending "$tmp/again.log") >= $1)) || has_ended again
}

# A VMM that mends it: both are killed several times.
times=0
importer again b "$at" fault 4 again
wait_for 30 imported_or_ended again
for victim in b a b; do
	running again || break
	killed $victim
	if [[ $victim = a ]]; then
		worker a --listen "$at"
	else
		worker b
	fi
	times=$((times + 1))
	wait_for 30 mended_or_ended $times
done
was_right again
says again 'mending' || fail "nothing had to be mended"
