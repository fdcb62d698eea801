#!/bin/sh
# Builds the real gitlab-runner and its helper from GitLab's source, as a Go module's dependency.
#
# usage: build-real-runner.sh [DIR]
# DIR defaults to $XDG_CACHE_HOME/outrigger-test/real-runner-<version>. The directory is printed last, on stdout. It
# holds `gitlab-runner`, `gitlab-runner-helper`, `about` (a line on what they are) and `packaging` (what GitLab's
# packages hold besides, and do when they are installed). The source is that of one version; RUNNER_VERSION is the
# version that the programs say they are. Where Go's build cache is warm, another version only links anew.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$here/go-runner"

module=gitlab.com/gitlab-org/gitlab-runner
go mod download "$module" >&2
folder=$(go list -m -f '{{.Dir}}' "$module")
source=$(cat "$folder/VERSION")
# A pseudo-version ends with twelve digits of the commit; GitLab's own builds say eight.
revision=$(go list -m -f '{{.Version}}' "$module" | sed 's/.*-//' | cut -c 1-8)

version=${RUNNER_VERSION:-$source}
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/outrigger-test/real-runner-$version}
mkdir -p "$dir"

about="source $source, stamped $version"
stamps="-X $module/common.NAME=gitlab-runner -X $module/common.VERSION=$version -X $module/common.REVISION=$revision"
for program in gitlab-runner gitlab-runner-helper; do
    # Always built: Go's own cache knows whether anything changed.
    echo "building $program: $about" >&2
    CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "-s -w $stamps" -o "$dir/$program.new" "./$program" >&2
    mv "$dir/$program.new" "$dir/$program"
done
rm -rf "$dir/packaging"
cp -R "$folder/packaging" "$dir/packaging"
# Go's module cache may not be written to; this may.
chmod -R u+w "$dir/packaging"
echo "$about" >"$dir/about"
echo "$dir"
