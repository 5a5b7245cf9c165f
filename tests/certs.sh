# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Certificates for system tests, made with the openssl command. A script sources it after
# functions.sh:
#
#	. "$(dirname "$0")/../certs.sh"
#	make-certs "$tmp/certs"
#
# makes that folder with, each as NAME.pem (certificate) and NAME.key (private key, mode 0600):
#
#	authority         signs the hosts'
#	source, target    for 127.0.0.1, ::1 and localhost, for both sides of TLS
#	foreign           another authority, and
#	stranger          a host of its, otherwise as above
#
# They are valid for two days. make-cert adds further hosts.

# make-authority DIR NAME
make-authority() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
		-subj "/CN=Faultline test $2" -keyout "$1/$2.key" -out "$1/$2.pem" \
		-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
		2>"$1/openssl.txt" || fail "openssl: $(<"$1/openssl.txt")"
}

# make-cert DIR AUTHORITY NAME [HOSTS] - HOSTS as in IP:192.0.2.1,DNS:elsewhere.example
make-cert() {
	local dir=$1 authority=$2 name=$3 hosts=${4:-IP:127.0.0.1,IP:::1,DNS:localhost}
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
		-subj "/CN=Faultline test $name" -keyout "$dir/$name.key" -out "$dir/$name.csr" \
		2>"$dir/openssl.txt" || fail "openssl: $(<"$dir/openssl.txt")"
	printf '%s\n' "subjectAltName=$hosts" basicConstraints=critical,CA:FALSE \
		extendedKeyUsage=serverAuth,clientAuth >"$dir/$name.ext"
	openssl x509 -req -in "$dir/$name.csr" -CA "$dir/$authority.pem" \
		-CAkey "$dir/$authority.key" -CAcreateserial -days 2 -out "$dir/$name.pem" \
		-extfile "$dir/$name.ext" 2>"$dir/openssl.txt" ||
		fail "openssl: $(<"$dir/openssl.txt")"
	rm "$dir/$name.csr" "$dir/$name.ext" "$dir/openssl.txt"
}

# make-certs DIR
make-certs() {
	mkdir -p "$1"
	make-authority "$1" authority
	make-authority "$1" foreign
	make-cert "$1" authority source
	make-cert "$1" authority target
	make-cert "$1" foreign stranger
}
