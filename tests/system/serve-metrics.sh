#!/bin/bash
# SPDX-License-Identifier: MIT
# Metrics, over loopback and over a Unix socket, and nowhere else.
. "$(dirname "$0")/../serve-functions.sh"
requires uffd

image a $MiB 1
daemon unix --socket "$tmp/a.sock" --memory "$tmp/a" --metrics "unix:$tmp/metrics"
vmm one "$tmp/a.sock" "$tmp/a" touch:1 say:done wait
says one 'done'

# value NAME - of one sample
value() {
	grep -v '^#' <<<"$metrics" | grep -F "$1 " | awk '{ print $2 }'
}

scrape() {
	metrics=$(curl -fsS "$@")
	# Every sample has a help and a type, and nothing is there twice.
	[[ -z $(grep -v '^#' <<<"$metrics" | awk '{ print $1 }' | sort | uniq -d) ]] ||
		fail "a sample is there twice"
	while read -r name; do
		grep -q "^# TYPE $name " <<<"$metrics" || fail "$name has no type"
	done < <(grep -v '^#' <<<"$metrics" | sed 's/[{ ].*//' | sort -u)
}

scrape --unix-socket "$tmp/metrics" http://localhost/metrics
[[ $(value 'faultline_sessions_accepted_total') -eq 1 ]]
pages=$(($(value 'faultline_pages_total{way="demand"}') +
	$(value 'faultline_pages_total{way="around"}')))
((pages == 256)) || fail "$pages pages, not 256"
contains "$metrics" "^faultline_session_pages_left\{session=\"1\",pid=\"${started[one]}\"\} 0$"
contains "$metrics" '^faultline_session_fault_seconds\{session="1",kind="hit",quantile="0.5"\} 0\.'
go one
finishes one
all_gone unix

# What an ended session has counted stays.
scrape --unix-socket "$tmp/metrics" http://localhost/metrics
[[ $(value 'faultline_sessions_ended_total') -eq 1 ]]
(($(value 'faultline_pages_total{way="demand"}') + $(value 'faultline_pages_total{way="around"}') == pages))

code() {
	curl -sS -o /dev/null -w '%{http_code}' --unix-socket "$tmp/metrics" "$@"
}
[[ $(code http://localhost/) = 404 ]]
[[ $(code -d x=y http://localhost/metrics) = 405 ]]
[[ $(code -I http://localhost/metrics) = 200 ]]
stop unix
[[ ! -e $tmp/metrics ]] || fail "a socket was left behind"

# A port that is free now may be taken a moment later: try some.
for try in 1 2 3 4 5; do
	port=$((20000 + (RANDOM + try) % 10000))
	start "tcp$try" "$faultline" serve --control none --socket "$tmp/a.sock" \
		--memory "$tmp/a" --metrics "127.0.0.1:$port"
	wait_for 30 ready_or_ended "tcp$try"
	running "tcp$try" && break
done
scrape "http://127.0.0.1:$port/metrics"
[[ $(value 'faultline_sessions_accepted_total') -eq 0 ]]
refused timeout 20 "$faultline" serve --control none --socket "$tmp/b.sock" --memory "$tmp/a" \
	--metrics "127.0.0.1:$port"
contains "$output" "metrics 127.0.0.1:$port: Address already in use"
stop "tcp$try"

for address in 0.0.0.0:9100 192.0.2.1:9100 '[::]:9100' localhost 127.0.0.1 127.0.0.1:x \
	127.0.0.1:70000 :9100; do
	refused timeout 20 "$faultline" serve --control none --socket "$tmp/b.sock" \
		--memory "$tmp/a" --metrics "$address"
	contains "$output" "metrics "
done
