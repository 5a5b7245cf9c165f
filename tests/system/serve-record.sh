#!/bin/bash
# SPDX-License-Identifier: MIT
# The working set of the first VM is recorded, and replayed for the next: at most a tenth of its
# faults. A set of another image is refused.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image a $((8 * MiB)) 1
image b $((8 * MiB)) 2
work="read:0,$MiB read:$((4 * MiB)),$MiB read:$((2 * MiB + 4096)),4096"

daemon rec --socket "$tmp/a.sock" --memory "$tmp/a" --record "$tmp/set"
# shellcheck disable=SC2086 # words
"$client" "$tmp/a.sock" "$tmp/a" $work
says rec "wrote a working set of 513 pages to $tmp/set"
all_gone rec
cp "$tmp/set" "$tmp/first"
# Only the first is recorded.
"$client" "$tmp/a.sock" "$tmp/a" read:0,4096
all_gone rec
cmp "$tmp/set" "$tmp/first"
stat_is rec '.totals.pages.around == 0 and .totals.pages.fill == 0'
stop rec

daemon play --socket "$tmp/a.sock" --memory "$tmp/a" --around 0 --replay "$tmp/set"
# shellcheck disable=SC2086
vmm again "$tmp/a.sock" "$tmp/a" say:begun wait $work
becomes play '.sessions[0].pages.replay == 513'
go again
finishes again
all_gone play
stat_is play '[.totals.faults[].count] | add <= 51'
stop play

refused timeout 20 "$faultline" serve --socket "$tmp/b.sock" --memory "$tmp/b" --replay "$tmp/set"
contains "$output" "$tmp/set.*belongs to an image"
head -c 100 "$tmp/set" >"$tmp/half"
refused timeout 20 "$faultline" serve --socket "$tmp/a.sock" --memory "$tmp/a" --replay "$tmp/half"
contains "$output" "$tmp/half"
for other in --fill "--around 64K" "--replay $tmp/set"; do
	# shellcheck disable=SC2086
	refused timeout 20 "$faultline" serve --socket "$tmp/a.sock" --memory "$tmp/a" \
		--record "$tmp/new" $other
	contains "$output" "--record cannot be combined with ${other%% *}"
done

# An image that is too large to be recorded is served all the same, also to the next.
huge=$(mktemp -p /dev/shm)
exec {huge_fd}<>"$huge"
rm "$huge"
huge=/proc/$$/fd/$huge_fd
if truncate -s 17T "$huge" 2>/dev/null; then
	daemon huge --socket "$tmp/huge.sock" --memory "$huge" --record "$tmp/none"
	for _ in 1 2; do
		"$client" --size $MiB "$tmp/huge.sock" "$huge" touch:1
	done
	all_gone huge
	stat_is huge '.totals.ended == 2'
	stop huge
	[[ $(grep -c 'warning: .*is not recorded' "$tmp/huge.log") -eq 2 ]] ||
		fail "it does not say that nothing is recorded"
fi
