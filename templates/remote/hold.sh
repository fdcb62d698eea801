# Is this host reserved for another delivery? A reservation ends by itself.
held() {
	holder='' until=0
	[ -e "$base.hold" ] && read -r holder until <"$base.hold" && [ "$holder" != "$nonce" ] && [ "${until:-0}" -gt "$(up)" ]
}

# Seconds since the start of the system.
up() {
	cut -d . -f 1 /proc/uptime
}
