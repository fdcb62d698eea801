#!/bin/sh
# Installs and builds GitLab's clients that the `clients` tests ask the stand-in with: python-gitlab from PyPI and
# GitLab's Go client from the Go module proxy, both of pinned versions.
#
# usage: build-clients.sh [DIR]
# DIR defaults to $OUTRIGGER_TEST_CLIENTS, else $XDG_CACHE_HOME/outrigger-test/clients. Needs python3 with venv, and
# go. The directory is printed last, on stdout, so that a caller can say
#   OUTRIGGER_TEST_CLIENTS=$(tests/real/build-clients.sh)
# It holds python/ (a virtual environment) and go-client.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
dir=${1:-${OUTRIGGER_TEST_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/outrigger-test/clients}}
mkdir -p "$dir"
dir=$(CDPATH='' cd -- "$dir" && pwd)

# A virtual environment cannot be moved: the list of what is in it is written last, when it is whole.
wanted=$here/clients/python/requirements.txt
if ! cmp -s "$wanted" "$dir/python/installed.txt"; then
    echo "installing python-gitlab" >&2
    rm -rf "$dir/python"
    python3 -m venv "$dir/python"
    "$dir/python/bin/pip" --quiet --disable-pip-version-check install --no-deps --requirement "$wanted" >&2
    cp "$wanted" "$dir/python/installed.txt"
fi

# Always built: Go's own cache knows whether anything changed.
echo "building GitLab's Go client" >&2
cd "$here/clients/go"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/go-client.new" . >&2
mv "$dir/go-client.new" "$dir/go-client"
echo "$dir"
