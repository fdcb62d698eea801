#!/bin/sh
# Installs and builds the clients that the `clients` tests ask the stand-ins with: python-gitlab and botocore from
# PyPI and GitLab's Go client from the Go module proxy, of pinned versions, and the AWS CLI v2 as it is installed.
#
# usage: build-clients.sh [DIR]
# DIR defaults to $OUTRIGGER_TEST_CLIENTS, else $XDG_CACHE_HOME/outrigger-test/clients. Needs python3 with venv,
# go, and the AWS CLI v2 (Debian: awscli) on PATH. The directory is printed last, on stdout, so that a caller can say
#   OUTRIGGER_TEST_CLIENTS=$(tests/real/build-clients.sh)
# It holds python/ (a virtual environment), go-client and aws (a link).
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
dir=${1:-${OUTRIGGER_TEST_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/outrigger-test/clients}}
mkdir -p "$dir"
dir=$(CDPATH='' cd -- "$dir" && pwd)

# A virtual environment cannot be moved: the list of what is in it is written last, when it is whole.
wanted=$here/clients/python/requirements.txt
if ! cmp -s "$wanted" "$dir/python/installed.txt"; then
    echo "installing python-gitlab and botocore" >&2
    rm -rf "$dir/python"
    python3 -m venv "$dir/python"
    "$dir/python/bin/pip" --quiet --disable-pip-version-check install --no-deps --requirement "$wanted" >&2
    cp "$wanted" "$dir/python/installed.txt"
fi

# The first on PATH of version 2: PyPI's is version 1.
found=''
old_ifs=$IFS
IFS=:
for folder in $PATH; do
    if [ -x "$folder/aws" ]; then
        case $("$folder/aws" --version 2>/dev/null) in
            aws-cli/2.*) found=$folder/aws && break ;;
        esac
    fi
done
IFS=$old_ifs
if [ -z "$found" ]; then
    echo "no AWS CLI v2 on PATH (Debian: awscli)" >&2
    exit 1
fi
ln -sfn "$found" "$dir/aws"

# Always built: Go's own cache knows whether anything changed.
echo "building GitLab's Go client" >&2
cd "$here/clients/go"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/go-client.new" . >&2
mv "$dir/go-client.new" "$dir/go-client"
echo "$dir"
