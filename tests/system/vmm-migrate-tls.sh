#!/bin/bash
# SPDX-License-Identifier: MIT
# TLS and compression from the command line: what fits goes, what does not is refused, and the machine
# stays.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires uffd
command -v openssl >/dev/null || skip other "no openssl program to make certificates with"

quiet() {
	"$@" >"$tmp/quiet.log" 2>&1 || fail "$*"
}

authority() { # NAME
	quiet openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 \
		-subj "/CN=$1" -keyout "$tmp/$1.key" -out "$tmp/$1.pem"
}

certificate() { # NAME AUTHORITY
	quiet openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
		-keyout "$tmp/$1.key" -out "$tmp/$1.csr"
	quiet openssl x509 -req -in "$tmp/$1.csr" -CA "$tmp/$2.pem" -CAkey "$tmp/$2.key" -CAcreateserial \
		-days 1 -extfile <(echo subjectAltName=IP:127.0.0.1,DNS:localhost) -out "$tmp/$1.pem"
}

tls() { # NAME AUTHORITY
	echo --tls-cert "$tmp/$1.pem" --tls-key "$tmp/$1.key" --tls-authority "$tmp/$2.pem"
}

authority ours
authority theirs
certificate left ours
certificate right ours
certificate stranger theirs

runs a --accel thread --vcpus 2 --memory 16M --command stamp:light
at a command churn >/dev/null
# shellcheck disable=SC2046 # several words
receives b $(tls right ours)
# shellcheck disable=SC2046
refused "$vmm" migrate --control "$tmp/a" --to "$address" $(tls stranger ours)
contains "$output" 'migrate: .'
refused "$vmm" migrate --control "$tmp/a" --to "$address" --timeout 2000
refused "$vmm" migrate --control "$tmp/a" --to "$address" --tls-cert /none --tls-key /none --tls-authority /none
contains "$output" '/none'
at a status | jq -e '.state == "running"' >/dev/null || fail "$(at a status)"
# shellcheck disable=SC2046
migrates a $(tls left ours) --compress any
[[ $(value "$tmp/a.migration" '.saved_bytes > 0') = true ]] || fail "nothing was compressed"

# Compression that one side does not offer is none.
receives c --compress none
migrates b --compress zstd
[[ $(value "$tmp/b.migration" .saved_bytes) = 0 ]] || fail "compressed against its will"
proves c
