# Whoever owns $etc can swap what lies in it at any moment. So all that is done there is done as that user, who could
# do without us whatever it leads to.
{% if shared %}
# The first owner on the way there who is not root is that user.
{% endif %}
inside() {
{% if shared %}
	as=+0:+0 at=
	for part in $(printf '%s' "$etc" | tr / ' '); do
		at=$at/$part
		case $(stat -c '%u %A' "$at") in
			0' '*[tT]) [ "$at" != "$etc" ] || fail "other users may write to $etc" ;;
			0' '?????w* | 0' '????????w*) fail "other users may write to $at" ;;
			0' '*) ;;
			*) as=$(stat -c +%u:+%g "$at") && break ;;
		esac
	done
{% else %}
	as=$(stat -c +%u:+%g "$etc")
{% endif %}
	# Without terminal, log and lock of ours; and it may be stopped, but not for ever. What it says is kept where there
	# is room, also when the disk is full.
	timeout -s KILL 60 setsid -w chroot --userspec="$as" --groups= / "$@" 2>/run/outrigger.said 3>&- 9>&- && return
	tr -cd '\n -~' </run/outrigger.said >&2
	return 1
}

# fetch FILE COPY: a copy of what lies in $etc, if it is a file and no larger than such files are.
fetch() {
	is_file "$1"
	inside dd if="$1" iflag=nofollow,nonblock,fullblock bs=1M count=4 status=none >"$2" ||
		fail "cannot read $1 as its directory's owner: $(last_error)"
	[ "$(wc -c <"$2")" -lt 4194304 ] || fail "$1 has more than 4 MB"
}

is_file() {
	[ -f "$1" ] || [ ! -e "$1" ] || fail "$1 is not a regular file"
	[ ! -L "$1" ] || fail "$1 is a symbolic link"
}

# put FILE PLACE MODE: puts it into $etc at once, with owner and mode of what it replaces.
put() {
	# shellcheck disable=SC2016 # for that shell
	inside sh -c 'n=${1%/*}/.outrigger.new; rm -f "$n"; umask 077
cat >"$n" && chmod "$2" "$n" && { [ ! -e "$1" ] || { chown --reference="$1" "$n"; chmod --reference="$1" "$n"; }; } &&
mv -fT "$n" "$1" || { rm -f "$n"; exit 1; }' sh "$2" "$3" <"$1" >/dev/null
}

# Is config.toml still what "old" is a copy of?
unchanged() {
	[ -e "$config" ] || return 0
	fetch "$config" again
	cmp -s again old
}
{% if not undo %}

# Makes $etc root's, while something works there as root.
lock() {
	[ "$(stat -c %u "$etc")" != 0 ] || return 0
	locked=yes
	chown root: "$etc"
	chmod 700 "$etc"
	is_file "$config"
}

# Makes it the service's, with what root wrote there: that is root's while it is looked at.
give() {
	chown root: "$etc"
	chmod 700 "$etc"
	for file in "$config" "$etc/.runner_system_id"; do
		[ -L "$file" ] || [ ! -f "$file" ] || [ "$(stat -c %h "$file")" != 1 ] || chown -h outrigger: "$file"
	done
	chown outrigger: "$etc"
	locked=''
}
{% endif %}
