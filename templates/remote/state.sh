# Is gitlab-runner's process that of the unit that the script wrote, and as it is there?
hardened() {
	unit=/etc/systemd/system/gitlab-runner.service.d/outrigger.conf
	pid=$(systemctl show -p MainPID --value gitlab-runner 2>/dev/null)
	[ -r "/proc/${pid:-0}/status" ] || return 0
	want=$(sed '/^ExecStart=/d' "$unit" 2>/dev/null | sort | sha256sum | cut -d ' ' -f 1)
	as=$(sed -nE 's/^(Uid|NoNewPrivs):\t([0-9]+).*/\2/p' "/proc/$pid/status" | tr '\n' ' ')
	case "$as$(tr '\0' ' ' <"/proc/$pid/cmdline")" in
		"$(id -u outrigger 2>/dev/null) 1 "*" --service outrigger-$want ") put hardened yes ;;
		*) put hardened no ;;
	esac
}

# Does our entry say what the script wrote? Tokens and what gitlab-runner adds do not count.
entry() {
	wrote=$(first "$state.digest" | cut -d ' ' -f 3 -s)
	[ -n "$wrote" ] || return 0
	config=$(systemctl show -p ExecStart gitlab-runner 2>/dev/null |
		sed -nE 's/.* (--config|-c)[ =]([^ ;]+).*/\2/p')
	config=${config:-/etc/gitlab-runner/config.toml}
	ca=$(readlink -f "${config%/*}")/outrigger-{{ deployment | sh }}-ca.crt
	# The service's user owns that directory.
	said=$(dd if="$config" iflag=nofollow,nonblock,fullblock bs=1M count=4 status=none 2>/dev/null |
		NAME={{ name | toml | sh }} URL={{ url | toml | sh }} HOST={{ host | toml | sh }} CA="\"$ca\"" LC_ALL=C awk '
{% include "entries.awk" %}
	function entry_done() {
		if (ours() && !count++) printf "%s", said
	}
	END { next_part() }')
	case $said in
		'') put entry gone ;;
		*) [ "$(printf '%s\n' "$said" | sort | sha256sum | cut -d ' ' -f 1)" = "$wrote" ] || put entry changed ;;
	esac
}
