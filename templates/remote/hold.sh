# Is this host reserved by another outrigger? A reservation ends by itself.
held() {
	holder='' until=0
	[ -e "$base.hold" ] && read -r holder until <"$base.hold" && [ "$holder" != {{ reserver | sh }} ] && [ "${until:-0}" -gt "$(up)" ]
}

# Seconds since the start of the system.
up() {
	cut -d . -f 1 /proc/uptime
}
