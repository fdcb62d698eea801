#!/bin/sh
# Builds the stand-in for gitlab-runner that the `real` tests install on their machines.
#
# usage: build-runner.sh [DIR]
# DIR defaults to $XDG_CACHE_HOME/outrigger-test/runner-<version>. The directory with `gitlab-runner` in it
# is printed last, on stdout. RUNNER_VERSION makes it say that it is another version than 19.4.1, with the
# commands and settings of that one.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$here/go"

version=${RUNNER_VERSION:-19.4.1}
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/outrigger-test/runner-$version}
mkdir -p "$dir"

# Always built: Go's own cache knows whether anything changed.
echo "building gitlab-runner $version" >&2
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$version" \
    -o "$dir/gitlab-runner.new" ./gitlab-runner >&2
mv "$dir/gitlab-runner.new" "$dir/gitlab-runner"
echo "$dir"
