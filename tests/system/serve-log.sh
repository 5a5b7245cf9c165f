#!/bin/bash
# SPDX-License-Identifier: MIT
# What the daemon says, and to whom: levels, a log that nobody reads any more, and systemd.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image a $MiB 1
serve_a=("$faultline" serve --control none --socket "$tmp/a.sock" --memory "$tmp/a")

# Errors only.
start quiet "${serve_a[@]}" --log-level error
wait_for 30 is_listening "$tmp/a.sock"
"$client" "$tmp/a.sock" "$tmp/a" touch:1
"$client" --raw hello "$tmp/a.sock" "$tmp/a" closed
says quiet 'error: session 2 .*refused'
stop quiet
[[ $(wc -l <"$tmp/quiet.log") -eq 1 ]] || fail "it says more than errors"

# Whoever reads the log goes away: the VMs are served on.
mkfifo "$tmp/pipe"
start deaf bash -c 'exec "$@" 2>"$0"' "$tmp/pipe" "${serve_a[@]}"
grep -m 1 ready "$tmp/pipe" >/dev/null
"$client" "$tmp/a.sock" "$tmp/a" touch:1
"$client" --raw hello "$tmp/a.sock" "$tmp/a" closed
"$client" "$tmp/a.sock" "$tmp/a" touch:1
stop deaf

# Whoever reads the log stops reading, and the pipe is full: VMs are served, and the daemon ends.
mkfifo "$tmp/full"
exec {reader}<>"$tmp/full"
head -c 1M /dev/zero | dd of="$tmp/full" oflag=nonblock status=none bs=4096 2>/dev/null || :
start stalled bash -c 'exec "$@" 2>"$0"' "$tmp/full" "${serve_a[@]}"
wait_for 30 is_listening "$tmp/a.sock"
"$client" --clones 20 "$tmp/a.sock" "$tmp/a" touch:1 wait </dev/null
"$client" --raw hello "$tmp/a.sock" "$tmp/a" closed
stop stalled
exec {reader}<&-

# systemd is told when it is ready, and gets priorities.
start notified socat -u "UNIX-RECV:$tmp/notify" -
wait_for 20 test -S "$tmp/notify"
NOTIFY_SOCKET=$tmp/notify JOURNAL_STREAM=8:1 start unit "${serve_a[@]}"
says notified '^READY=1$'
"$client" --raw hello "$tmp/a.sock" "$tmp/a" closed
says unit '^<6>faultline: ready$'
says unit '^<3>faultline: error: session 1 .*refused'
stop unit
