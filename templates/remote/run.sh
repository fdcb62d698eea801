# Runs a script on this machine as root, detached from the connection: a cut line harms nothing. By outrigger.
{% include "follow.sh" %}

{% include "hold.sh" %}

deliver() {
	# A line that was cut short runs nothing.
	[ "${1:-}" = {{ nonce | sh }} ] || exit 1
	set -eu
	umask 077
	exec </dev/null
	nonce=$1 base={{ base | sh }} state={{ state | sh }}
	dir=$base.$nonce
	# The end of another delivery is not awaited.
	exec 8>>"$base.lock"
	other='' pid=''
	if ! flock -n 8 || { read -r other pid <"$base.lock" && [ -d "/proc/${pid:-none}" ]; }; then
		put busy "$(cut -d ' ' -f 1 "$base.lock")"
		return
	fi
	if held; then
		put busy "$holder"
		return
	fi
	# Until the script's own process stands there.
	echo "$nonce $$" >"$base.lock"
	# A line that is lost from here on does not keep it from starting; nothing else leaves secrets behind.
	trap '' PIPE
	trap 'rm -rf "$dir"' EXIT
	# What a killed one left.
	for old in "$base".*; do
		[ "$old" = "$base.lock" ] || rm -rf "$old"
	done
	mkdir "$dir"
	echo {{ script | sh }} | base64 -d >"$dir/script"
	echo {{ secrets | sh }} | base64 -d >"$dir/secrets"
	if [ "$(sha256sum <"$dir/script")$(sha256sum <"$dir/secrets")" != {{ sums | sh }} ]; then
		put damaged
		return
	fi
	cat >"$dir/run" <<'END'
umask 077
base={{ base | sh }} nonce={{ nonce | sh }}
cd "$base.$nonce" || exit
exec 8>>"$base.lock"
# A twin that was started all the same has it.
flock -w 5 8 || { [ -e out ] || echo busy >exit; exit; }
echo "$nonce $$" >"$base.lock"
ended() {
	rm -f script secrets
	echo "$1" >exit.new
	mv exit.new exit
	: >"$base.lock"
}
trap 'ended 143; exit 143' HUP INT TERM
[ -s secrets ] || rm -f secrets
set -- script
[ ! -e secrets ] || set -- script "$PWD/secrets"
HOME=/root OUTRIGGER_DELIVERY=$nonce sh "$@" </dev/null >out 2>&1 8>&-
ended $?
END
	put started || :
	exec 8>&-
	set +e
	started=no
	if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
		systemd-run --quiet --collect --unit="outrigger-$nonce" sh "$dir/run" && started=yes
	fi
	[ "$started" = yes ] || (trap - PIPE; exec setsid sh "$dir/run") >/dev/null 2>&1 &
	trap - EXIT PIPE
	follow 0
}

deliver {{ nonce | sh }}
