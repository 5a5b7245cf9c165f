#!/bin/bash
# SPDX-License-Identifier: MIT
# Two workers over TLS 1.3: every page arrives; who has no certificate of ours, or speaks plain, is
# turned away by both sides.
. "$(dirname "$0")/../worker-functions.sh"
command -v openssl >/dev/null || skip other "openssl(1) is not installed"

# authority NAME - certificates of our own
authority() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
		-subj "/CN=$1" -keyout "$tmp/$1.key" -out "$tmp/$1.pem" 2>/dev/null
}

# certificate NAME AUTHORITY - for 127.0.0.1
certificate() {
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
		-keyout "$tmp/$1.key" -out "$tmp/$1.csr" 2>/dev/null
	openssl x509 -req -in "$tmp/$1.csr" -CA "$tmp/$2.pem" -CAkey "$tmp/$2.key" -days 2 \
		-set_serial "$RANDOM" -extfile <(echo 'subjectAltName=IP:127.0.0.1') \
		-out "$tmp/$1.pem" 2>/dev/null
}

# tls_worker NAME CERTIFICATE AUTHORITY [OPTION...]
tls_worker() {
	worker "$1" --tls-cert "$tmp/$2.pem" --tls-key "$tmp/$2.key" --tls-ca "$tmp/$3.pem" \
		--timeout 3 "${@:4}"
}

authority ours
authority theirs
certificate one ours
certificate two ours
certificate stranger theirs

tls_worker a one ours --listen 127.0.0.1:0
tls_worker b two ours
exporter vm a
importer right b "$(listening a)" copy 4
was_right right

tls_worker c stranger ours
importer stranger c "$(listening a)" copy 1
ended stranger 60
((status == 3)) || fail "a stranger was let in: status $status"
tls_worker d two theirs
importer doubtful d "$(listening a)" copy 1
ended doubtful 60
((status == 3)) || fail "a worker that it does not trust was believed: status $status"
worker e --timeout 3
importer plain e "$(listening a)" copy 1
ended plain 60
((status == 3)) || fail "who speaks plain was let in: status $status"

importer still b "$(listening a)" copy 2
was_right still
refused timeout 20 "$BUILD/faultline" worker --socket "$tmp/f.sock" --tls-cert "$tmp/none" \
	--tls-key "$tmp/two.key" --tls-ca "$tmp/ours.pem"
# shellcheck disable=SC2154 # from functions.sh
contains "$output" "$tmp/none"
for name in a b c d e; do
	stop $name
done
