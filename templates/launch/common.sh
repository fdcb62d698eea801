# A line to the log and the console. Never a secret.
say() {
	printf 'outrigger: %s\n' "$1" | tee -a "$log" >&3
}

fail() {
	reason=$1
	exit 1
}

# At any end.
finish() {
	code=$?
	trap - EXIT
	set +e
	# Makes room, if the disk is full.
	rm -rf "$work" "$state.json" /run/outrigger.said
{% if not undo %}
	[ -z "$locked" ] || give
{% endif %}
{% if undo %}
	[ "$code" -ne 0 ] || exit 0
{% endif %}
	result=ok
	if [ "$code" -ne 0 ]; then
		result=failed
		say "FAILED in step $step: ${reason:=$(last_error)}"
	fi
	# Without what JSON would escape.
	reason=$(printf '%s' "$reason" | tr -cd ' !#-[]-~')
	cat >"$state.new" <<END &&
{"deployment":"$deployment","result":"$result","step":"$step","reason":"$reason",{% if not undo %}"digest":"{{ noted_digest }}",{% endif %}{% if shared %}"delivery":"${OUTRIGGER_DELIVERY-}",{% endif %}"outrigger":"{{ outrigger_version }}","gitlab_runner":"$(installed)","finished":"$(date -u +%FT%TZ)"}
END
		mv -f "$state.new" "$state.json"
	exit "$code"
}

begin() {
	[ "$(id -u)" -eq 0 ] || { echo 'outrigger: run this as root' >&2; exit 1; }
	# What is secret stays below $work, which only root may enter.
	umask 022
	step=start reason='' work='' warned=''{% if not undo %} locked=''{% endif %}

	state=/var/lib/outrigger/$deployment
	mine=$state.installed
	log=/var/log/outrigger-$deployment.log
	mkdir -p "${state%/*}"
	# 3 is the console.
	exec 3>&1 >>"$log" 2>&1
	chmod 600 "$log"
	trap finish EXIT
	trap 'exit 143' HUP INT TERM
	say "$deployment, log in $log"
	# Which nobody else can open, and so hold.
	umask 077
	exec 9>>/run/outrigger.lock
	umask 022
	flock -n 9 || { say 'waiting for the end of another run'; flock 9; }
{% if shared %}
	command -v systemctl >/dev/null || fail 'systemd is needed, there is no systemctl'
{% endif %}
}

# What the command that failed said first.
last_error() {
	why=$(awk '{gsub(/\033\[[0-9;]*m/,"")} /^outrigger: /{w=""} !w&&/^(E|curl|FATAL|PANIC|ERROR):|No space/{w=$0} END{print w}' "$log")
	[ "$why" ] || ! df / "$log" | grep -q 100% || why='the disk is full'
	printf '%s' "${why:-a command failed}, see $log"
}

# retry NAME COMMAND...: networks fail at first boot.
retry() {
	what=$1
	shift
	for pause in $pauses; do
		"$@" && return
		say "$what failed, again in $pause s"
		sleep "$pause"
	done
	"$@" || fail "$what failed: $warned$(last_error)"
}

# The installed version, or nothing.
installed() {
	gitlab-runner --version 2>/dev/null | sed -n 's/^Version: *//p'
}
{% if not undo %}

# at_least VERSION: is it installed, or a later one?
at_least() {
	[ "$(printf '%s\n' "$1" "$(installed)" | sort -V | head -n 1)" = "$1" ]
}
{% endif %}
