# Reserves this host for a delivery of outrigger that follows at once.
{% include "hold.sh" %}

put() {
	printf '\noutrigger %s %s %s\n' "$nonce" "$1" "${2:-}"
}

reserve() {
	[ "${1:-}" = {{ nonce | sh }} ] || exit 1
	umask 077
	exec </dev/null
	nonce=$1 base={{ base | sh }} pid=''
	exec 8>>"$base.lock"
	if ! flock -n 8 || { read -r _ pid <"$base.lock" && [ -d "/proc/${pid:-none}" ]; } || held; then
		put busy
		return
	fi
	echo {{ reserver | sh }}" $(($(up) + {{ seconds }}))" >"$base.hold"
	put reserved
}

reserve {{ nonce | sh }}
