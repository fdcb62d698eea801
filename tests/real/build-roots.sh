#!/bin/sh
# Makes the Debian roots that the `vm` tests boot, from the mirror that this machine's apt uses. As root.
#
# usage: build-roots.sh [DIR]
# DIR defaults to $OUTRIGGER_TEST_ROOTS, else $XDG_CACHE_HOME/outrigger-test/roots-<edition>. Needs mmdebstrap.
# Roots that are there already are kept; the directory is printed last, on stdout, so that a caller can say
#   OUTRIGGER_TEST_ROOTS=$(tests/real/build-roots.sh)
# It holds bookworm/, trixie/, bookworm-small/ (no curl, no gpg, no certificates) and bookworm-mirror/: the
# packages that the small root needs to get these.
# shellcheck disable=SC2016 # the hooks and apt expand these, not this shell
set -eu

# Also in vm/roots.rs. To be raised when what follows changes, so that old roots are made anew.
edition=1
dir=${1:-${OUTRIGGER_TEST_ROOTS:-${XDG_CACHE_HOME:-$HOME/.cache}/outrigger-test/roots-$edition}}
mkdir -p "$dir"
dir=$(CDPATH='' cd -- "$dir" && pwd)

# systemd as PID 1 and cloud-init; the rest is what the cloud images of Debian have and scripts lean on.
base=systemd,systemd-sysv,dbus,cloud-init,openssh-server,iproute2,procps,sudo
tools=curl,ca-certificates,gnupg

mirror() {
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1
}
mirror=$(mirror)
if [ -z "$mirror" ]; then
	apt-get -qq update >&2
	mirror=$(mirror)
fi
[ -n "$mirror" ] || { echo "apt knows no mirror of Debian here" >&2; exit 1; }
keys=/usr/share/keyrings/debian-archive-keyring.gpg

# make NAME CODENAME PACKAGES [OPTION...]: a root is there only when it is whole.
make() {
	name=$1 codename=$2 packages=$3
	shift 3
	[ ! -d "$dir/$name" ] || return 0
	echo "making the root $name" >&2
	rm -rf --one-file-system "$dir/$name.new"
	# What differs from one making to the next, or names this machine, must not be in it. The timers of
	# apt would take its lock at a time of their own.
	mmdebstrap --quiet --mode=root --variant=minbase --format=directory --include="$packages" \
		--keyring="$keys" "$@" \
		--customize-hook='rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/etc/resolv.conf' \
		--customize-hook='rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*' \
		--customize-hook=': >"$1"/etc/machine-id' \
		--customize-hook='for unit in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim; do ln -sf /dev/null "$1/etc/systemd/system/$unit.timer"; done' \
		"$codename" "$dir/$name.new" "$mirror" >&2
	# Last of all the name, so that a making cut short is seen as one.
	mv "$dir/$name.new" "$dir/$name"
}

# cloud-init depends on python3-requests, and that on the certificates: here the dependency is dropped, as
# a machine without them is what is wanted. What the small root lacks is downloaded for it, but not unpacked.
small() {
	[ ! -d "$dir/bookworm-mirror" ] || [ ! -d "$dir/bookworm-small" ] || return 0
	rm -rf "$dir/bookworm-mirror" "$dir/bookworm-mirror.new" "$dir/bookworm-small"
	mkdir "$dir/bookworm-mirror.new"
	MIRROR=$dir/bookworm-mirror.new
	export MIRROR
	make bookworm-small bookworm "$base" \
		--customize-hook='sed -i -E "/^Package: python3-(certifi|requests)$/,/^$/{s/, *ca-certificates//;s/ca-certificates, *//}" "$1"/var/lib/dpkg/status' \
		--customize-hook='chroot "$1" dpkg --purge ca-certificates openssl' \
		--customize-hook='chroot "$1" apt-get -qq -y --no-install-recommends --download-only -o Dir::Cache::archives=/var/cache/apt/wanted install curl gpg gnupg ca-certificates' \
		--customize-hook='mv "$1"/var/cache/apt/wanted/*.deb "$MIRROR" && rm -rf "$1"/var/cache/apt/wanted' \
		--customize-hook='for tool in curl gpg openssl; do ! chroot "$1" sh -c "command -v $tool" || exit 1; done'
	mv "$dir/bookworm-mirror.new" "$dir/bookworm-mirror"
}

make bookworm bookworm "$base,$tools"
make trixie trixie "$base,$tools"
small
echo "$dir"
