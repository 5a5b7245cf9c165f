#!/bin/bash
# SPDX-License-Identifier: MIT
# builds: plain	sanitizers need more address space than a limit leaves them
# No thread can be had for a session: its connection is dropped with a line that says so, and the
# daemon goes on with the next.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image a $MiB 1
daemon d --socket "$tmp/a.sock" --memory "$tmp/a"
# As much address space as it has, and so no stack for a thread.
limit=$(($(awk '/^VmSize/ { print $2 }' "/proc/${started[d]}/status") * 1024 + 65536))
prlimit --pid "${started[d]}" --as="$limit:"
"$client" --raw hello "$tmp/a.sock" "$tmp/a" closed
says d 'error: a connection to .*a.sock was dropped: '
prlimit --pid "${started[d]}" --as=unlimited:
"$client" "$tmp/a.sock" "$tmp/a" touch:1
silent d refused
stop d
