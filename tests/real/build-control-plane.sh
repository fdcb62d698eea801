#!/bin/sh
# Builds the Kubernetes control plane and node that the real tests start, from Go modules alone.
#
# usage: build-control-plane.sh [DIR]
# DIR defaults to $KUBEBUILDER_ASSETS, else $XDG_CACHE_HOME/outrigger-test/<version>. Binaries that
# are there already are kept; the directory is printed last, on stdout, so that a caller can say
#   KUBEBUILDER_ASSETS=$(tests/real/build-control-plane.sh)
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$here/go"

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}
minor=${minor%%.*}
dir=${1:-${KUBEBUILDER_ASSETS:-${XDG_CACHE_HOME:-$HOME/.cache}/outrigger-test/$version}}
mkdir -p "$dir"

# Unstamped binaries report v0.0.0, which clients take for an ancient server.
stamp=k8s.io/component-base/version
ldflags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=$minor"

build() {
    [ -x "$dir/$1" ] && return 0
    echo "building $1 $version" >&2
    CGO_ENABLED=0 go build -trimpath -ldflags "$ldflags" -o "$dir/$1.new" "$2" >&2
    mv "$dir/$1.new" "$dir/$1"
}
build etcd go.etcd.io/etcd/server/v3
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
build kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
build kube-scheduler k8s.io/kubernetes/cmd/kube-scheduler
build kubelet k8s.io/kubernetes/cmd/kubelet
build kubectl k8s.io/kubernetes/cmd/kubectl
build pause ./pause
echo "$dir"
