#!/bin/sh
# Makes the fixtures that ring cannot sign; see README.md. Keys are thrown away, but for those of servers
# that a test plays.
set -eu
out=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

key() { # FILE KIND
    case $2 in
        rsa*) openssl genpkey -quiet -algorithm RSA -pkeyopt "rsa_keygen_bits:${2#rsa}" -out "$1" ;;
        *) openssl genpkey -quiet -algorithm EC -pkeyopt "ec_paramgen_curve:$2" -out "$1" ;;
    esac
}

sign() { # CSR EXTENSIONS DIGEST SERIAL OUT [MORE OPTIONS]
    csr=$1 ext=$2 digest=$3 serial=$4 crt=$5
    shift 5
    rm -f index*
    : > index
    echo "$serial" > serial
    # `ca`, for only it sets the first day: a fixture must be valid on any machine's clock.
    openssl ca -batch -notext -config ca.conf -md "$digest" -extfile "$ext" -in "$csr" -out "$crt" "$@" 2>/dev/null
}

cat > ca.conf <<'CONF'
[ca]
default_ca = here
[here]
database = index
serial = serial
new_certs_dir = .
default_startdate = 20200101000000Z
default_enddate = 21200101000000Z
policy = any
[any]
commonName = supplied
CONF

names=DNS:api.example.com,IP:10.0.0.1

fixture() { # NAME CA-KEY LEAF-KEY LEAF-DIGEST [KEY-IDS: yes]
    name=$1
    key ca.key "$2"
    key leaf.key "$3"
    printf '%s\n' 'basicConstraints=critical,CA:TRUE' 'keyUsage=critical,keyCertSign,cRLSign' > ca.ext
    printf '%s\n' 'basicConstraints=critical,CA:FALSE' 'keyUsage=critical,digitalSignature' \
        'extendedKeyUsage=serverAuth' "subjectAltName=$names" > leaf.ext
    if [ "${5:-yes}" = yes ]; then
        echo 'subjectKeyIdentifier=hash' >> ca.ext
        echo 'authorityKeyIdentifier=keyid' >> leaf.ext
    else
        # Left unsaid, openssl adds them by itself.
        echo 'subjectKeyIdentifier=none' | tee -a ca.ext >> leaf.ext
        echo 'authorityKeyIdentifier=none' | tee -a ca.ext >> leaf.ext
    fi
    openssl req -new -key ca.key -subj "/CN=$name CA" -config /dev/null -out ca.csr
    openssl req -new -key leaf.key -subj "/CN=kube-apiserver" -config /dev/null -out leaf.csr
    sign ca.csr ca.ext sha256 01 "$out/$name.ca.pem" -selfsign -keyfile ca.key
    sign leaf.csr leaf.ext "$4" 02 "$out/$name.chain.pem" -cert "$out/$name.ca.pem" -keyfile ca.key
}

fixture rsa-1024-root rsa1024 P-256 sha256
fixture rsa-1024-leaf P-256 rsa1024 sha256
fixture p-521-root P-521 P-256 sha512
fixture p-521-leaf P-256 P-521 sha256
fixture sha-1-leaf P-256 P-256 sha1
fixture ecdsa-sha-512 P-256 P-256 sha512
fixture no-key-ids P-256 P-256 sha256 no

# Servers that a test plays: also for this machine, and the leaf's key is kept.
names=$names,DNS:localhost,IP:127.0.0.1
local_fixture() { # NAME CA-KEY LEAF-KEY LEAF-DIGEST
    fixture "$@"
    cp leaf.key "$out/$1.key.pem"
}
local_fixture local-rsa-1024-root rsa1024 P-256 sha256
local_fixture local-p-521 P-521 P-521 sha256
local_fixture local-p-384-sha-512 P-384 P-256 sha512

# What `openssl req -x509 -newkey rsa:2048 -addext subjectAltName=...` makes of its own accord: a certificate
# that is its own CA and the server's at once. (Made by `ca`, for the first day.)
key leaf.key rsa2048
printf '%s\n' 'subjectKeyIdentifier=hash' 'authorityKeyIdentifier=keyid:always,issuer' \
    'basicConstraints=critical,CA:TRUE' "subjectAltName=$names" > own.ext
openssl req -new -key leaf.key -subj /CN=gitlab.example.com -config /dev/null -out own.csr
sign own.csr own.ext sha256 03 "$out/local-openssl-default.ca.pem" -selfsign -keyfile leaf.key
cp "$out/local-openssl-default.ca.pem" "$out/local-openssl-default.chain.pem"
cp leaf.key "$out/local-openssl-default.key.pem"
