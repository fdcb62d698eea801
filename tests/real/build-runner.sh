#!/bin/sh
# Builds the stand-in for gitlab-runner, which plays versions before 19.3: those have no `lint`, and the source that
# build-real-runner.sh builds has it.
#
# usage: build-runner.sh [DIR]
# DIR defaults to $XDG_CACHE_HOME/outrigger-test/runner-<version>. The directory with `gitlab-runner` in it
# is printed last, on stdout. RUNNER_VERSION makes it say that it is another version than 17.9.0. As 19.4.1 it is
# compared with the real one.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$here/go"

version=${RUNNER_VERSION:-17.9.0}
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/outrigger-test/runner-$version}
mkdir -p "$dir"

# Always built: Go's own cache knows whether anything changed.
echo "building the stand-in for gitlab-runner $version" >&2
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$version" \
    -o "$dir/gitlab-runner.new" ./gitlab-runner >&2
mv "$dir/gitlab-runner.new" "$dir/gitlab-runner"
echo "$dir"
