#!/bin/bash
# SPDX-License-Identifier: MIT
# Whose socket is it: a live one is left alone, a stale one replaced, and what is no socket is not
# touched.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image a $MiB 1
daemon first --socket "$tmp/a.sock" --memory "$tmp/a"
refused timeout 20 "$faultline" serve --control none --socket "$tmp/a.sock" --memory "$tmp/a"
contains "$output" "$tmp/a.sock: is already served by another process"
"$client" "$tmp/a.sock" "$tmp/a" touch:1

# Killed, it leaves its sockets, which the next one replaces.
kill -KILL "${started[first]}"
killed first
[[ -S $tmp/a.sock && -S $tmp/first.control ]] || fail "nothing is stale"
daemon second --socket "$tmp/a.sock" --memory "$tmp/a" --control "$tmp/first.control"
"$client" "$tmp/a.sock" "$tmp/a" touch:1
"$faultline" stat --control "$tmp/first.control" >/dev/null
stop second
[[ ! -e $tmp/a.sock && ! -e $tmp/first.control ]] || fail "a socket was left behind"

echo precious >"$tmp/a.sock"
refused timeout 20 "$faultline" serve --control none --socket "$tmp/a.sock" --memory "$tmp/a"
contains "$output" "$tmp/a.sock: exists and is no socket"
[[ $(cat "$tmp/a.sock") = precious ]] || fail "it was touched"
rm "$tmp/a.sock"

# One of two sockets cannot be had: the other is not left behind.
echo precious >"$tmp/b.sock"
refused timeout 20 "$faultline" serve --control none --memory "$tmp/a" --socket "$tmp/a.sock" \
	--socket "$tmp/b.sock"
[[ ! -e $tmp/a.sock ]] || fail "a socket was left behind"

# The usual control socket is no condition, one that was asked for is.
export XDG_RUNTIME_DIR=$tmp/none
start third "$faultline" serve --socket "$tmp/a.sock" --memory "$tmp/a"
wait_for 30 ready_or_ended third
says third 'warning: no control socket'
"$client" "$tmp/a.sock" "$tmp/a" touch:1
stop third
refused timeout 20 "$faultline" serve --control "$tmp/b.sock" --socket "$tmp/a.sock" \
	--memory "$tmp/a"
contains "$output" "$tmp/b.sock: exists and is no socket"
[[ ! -e $tmp/a.sock ]] || fail "a socket was left behind"
