#!/bin/sh
# The first process of the tests' node, alone in its namespaces for mounts and processes: when it is
# killed, all that it started is gone with it, pods and mounts included.
#
# usage: init.sh FOLDER NAME KUBELET [ARGUMENT...]
# FOLDER holds containerd.toml and images.tar; NAME is that of the cgroup; the rest starts the kubelet.
set -eu
folder=$1
name=$2
shift 2

# What containerd, runc, CNI plugins and the kubelet keep at places that cannot be chosen stays in here.
for place in /run /var/lib /var/log; do
    mount -t tmpfs tmpfs "$place"
done

# The kubelet insists on changing these settings of the kernel: it gets copies to change.
mkdir /run/settings
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    copy=/run/settings/${setting##*/}
    cat "/proc/sys/$setting" >"$copy"
    mount --bind "$copy" "/proc/sys/$setting"
done

if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    mkdir "/sys/fs/cgroup/$name"
else
    for hierarchy in /sys/fs/cgroup/*/cgroup.procs; do
        # Two names may lead to one hierarchy.
        mkdir -p "${hierarchy%/*}/$name"
    done
fi

containerd --config "$folder/containerd.toml" >"$folder/containerd.log" 2>&1 &
containerd=$!
client() {
    ctr --address "$folder/containerd.sock" --namespace k8s.io "$@"
}
until client version >/dev/null 2>&1; do
    if ! kill -0 "$containerd" 2>/dev/null; then
        tail -n 5 "$folder/containerd.log"
        exit 1
    fi
    sleep 0.1
done
client images import --snapshotter native "$folder/images.tar"

# Not by exec: the first process must reap what containerd's shims leave.
"$@" &
wait $!
