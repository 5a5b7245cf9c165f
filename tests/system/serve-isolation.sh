#!/bin/bash
# SPDX-License-Identifier: MIT
# Two images in one daemon, and sessions that fail: others do not notice, and the one image that
# two sockets share is opened once.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image a $((4 * MiB)) 1
image b $((4 * MiB)) 2
ln -s a "$tmp/same"
daemon d --socket "$tmp/a.sock" --memory "$tmp/a" --socket "$tmp/b.sock" --memory "$tmp/b" \
	--socket "$tmp/same.sock" --memory "$tmp/same" \
	--socket "$tmp/leave.sock" --memory "$tmp/b" --on-failure leave
stat_is d '.images | length == 2'
stat_is d '[.images[].sockets] == [2, 2]'
before=$(descriptors "${started[d]}")

for name in a b same; do
	vmm "$name" "$tmp/$name.sock" "$tmp/$name" read:0,65536 say:begun wait touch:3
	says "$name" begun
done
# Longer than its image: it fails once it is attached to.
beyond='[{"base_host_virt_addr":4096,"size":8388608,"offset":0}]'
vmm bad --raw "$beyond" "$tmp/a.sock" "$tmp/a" wait
killed bad
says d 'failed: .*; its VMM was killed'
# One that is left alone lives on, and its session shows what is wrong until it is gone.
vmm left --raw "$beyond" "$tmp/leave.sock" "$tmp/b" wait
says d 'failed: .*; its VMM is left waiting'
becomes d '[.sessions[] | select(.state == "failed" and (.error | test("beyond")))] | length == 1'
running left || fail "it was killed all the same"
go left
finishes left
becomes d '.sessions | length == 3'

# Asked to end with pages missing is a failure of that session alone.
id=$(jq '.sessions[] | select(.socket | endswith("same.sock")).session' "$tmp/stat.json")
contains "$(control d "{\"command\":\"end\",\"session\":$id}")" '"ok":true'
killed same
says d "session $id .*failed: ended by request with [0-9]+ pages missing"

go a
go b
finishes a
finishes b
all_gone d
stat_is d '.totals.ended == 2'
[[ $(descriptors "${started[d]}") -eq $before ]] || fail "descriptors were left open"
stop d
