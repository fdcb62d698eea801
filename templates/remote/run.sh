# Runs a script on this machine as root, detached from the connection: a cut line harms nothing. By outrigger.
{% include "follow.sh" %}

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
	if ! flock -n 8; then
		put busy "$(cut -d ' ' -f 1 "$base.lock")"
		return
	fi
	: >"$base.lock"
	# What a killed one left.
	for old in "$base".*; do
		[ "$old" = "$base.lock" ] || rm -rf "$old"
	done
	mkdir "$dir"
	printf %s {{ script | sh }} | base64 -d >"$dir/script"
	printf %s {{ secrets | sh }} | base64 -d >"$dir/secrets"
	if [ "$(sha256sum <"$dir/script")$(sha256sum <"$dir/secrets")" != {{ sums | sh }} ]; then
		rm -rf "$dir"
		put damaged
		return
	fi
	cat >"$dir/run" <<'END'
umask 077
base={{ base | sh }} nonce={{ nonce | sh }}
cd "$base.$nonce" || exit
ended() {
	rm -f script secrets
	echo "$1" >exit.new
	mv exit.new exit
	: >"$base.lock"
}
exec 8>>"$base.lock"
flock -w 5 8 || { ended busy; exit; }
echo "$nonce $$" >"$base.lock"
trap 'ended 143; exit 143' HUP INT TERM
[ -s secrets ] || rm -f secrets
set -- script
[ ! -e secrets ] || set -- script "$PWD/secrets"
HOME=/root OUTRIGGER_DELIVERY=$nonce sh "$@" </dev/null >out 2>&1 8>&-
ended $?
END
	put started
	exec 8>&-
	set +e
	started=no
	if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
		systemd-run --quiet --collect --unit="outrigger-$nonce" sh "$dir/run" && started=yes
	fi
	[ "$started" = yes ] || setsid sh "$dir/run" >/dev/null 2>&1 &
	follow 0
}

deliver {{ nonce | sh }}
