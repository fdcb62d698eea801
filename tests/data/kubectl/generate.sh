#!/bin/sh
# Makes the client certificates and keys of this directory: kinds that rcgen cannot make.
# For tests only; nobody trusts them.
set -eu
cd "$(dirname "$0")"
make() {
	openssl req -x509 -key "$1.key" -out "$1.crt" -days 36500 -subj "/CN=$1" 2>/dev/null
}
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.key
make p521
# The older form, with the parameters in a block of their own.
openssl ecparam -name prime256v1 -genkey -out sec1.key
make sec1
openssl genrsa -traditional -out pkcs1.key 2048 2>/dev/null
make pkcs1
openssl pkcs8 -topk8 -in pkcs1.key -passout pass:secret -out encrypted.key
