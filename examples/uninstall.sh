#!/bin/sh
# Takes back what the launch script of outrigger made of this machine, and nothing else.
# By outrigger 0.1.0; runs as root, as often as you like.
# outrigger-uninstall-script deployment=kubernetes-runner
#   runner   kubernetes-runner at https://gitlab.example.com
# Always:    our entry of config.toml, our CA files, our state.
# Besides, if the launch script brought gitlab-runner and no entry of others is left: the service (a running
#            job may end first), gitlab-runner, its apt source, config.toml, its users if they came with it.
# Stays:     what apt installed with it from the distribution (ca-certificates, curl, gpg and what they need;
#            apt autoremove), apt's lists until the next apt update, apt's logs, what cloud-init keeps of user data.
# Holds no secret. GitLab and the cluster still know the runner: outrigger teardown.
# Says what it does; if it fails, the outcome is in /var/lib/outrigger and the log in /var/log. Then run it again.

# Every value from outside, each as one quoted word.
settings() {
	deployment='kubernetes-runner'
	pauses='5 10 20 40' lock_wait=120 # seconds, between attempts and for apt's lock
	name='"kubernetes-runner"' # this and the next two as TOML
	url='"https://gitlab.example.com"'
	t_host='"https://203.0.113.12"'
}

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
	[ "$code" -ne 0 ] || exit 0
	result=ok
	if [ "$code" -ne 0 ]; then
		result=failed
		say "FAILED in step $step: ${reason:=$(last_error)}"
	fi
	# Without what JSON would escape.
	reason=$(printf '%s' "$reason" | tr -cd ' !#-[]-~')
	cat >"$state.new" <<END &&
{"deployment":"$deployment","result":"$result","step":"$step","reason":"$reason","delivery":"${OUTRIGGER_DELIVERY-}","outrigger":"0.1.0","gitlab_runner":"$(installed)","finished":"$(date -u +%FT%TZ)"}
END
		mv -f "$state.new" "$state.json"
	exit "$code"
}

begin() {
	[ "$(id -u)" -eq 0 ] || { echo 'outrigger: run this as root' >&2; exit 1; }
	# What is secret stays below $work, which only root may enter.
	umask 022
	step=start reason='' work='' warned=''
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
	command -v systemctl >/dev/null || fail 'systemd is needed, there is no systemctl'
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

# Whoever owns $etc can swap what lies in it at any moment. So all that is done there is done as that user, who could
# do without us whatever it leads to.
# The first owner on the way there who is not root is that user.
inside() {
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

# Asks nothing, restarts no other service.
apt_get() {
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
	# After a power cut.
	dpkg --configure -a || :
	set -- apt-get -y -o "DPkg::Lock::Timeout=$lock_wait" -o Acquire::Retries=3 -o Acquire::http::Timeout=20 \
		-o Acquire::https::Timeout=20 -o APT::Update::Error-Mode=any -o Dpkg::Options::=--force-confold \
		--no-install-recommends "$@"
	# Each source that never answers takes a while, and nobody knows how many there are.
	case $* in *' update') set -- timeout 300 "$@" ;; esac
	"$@"
}

# What is here of ours, and who brought gitlab-runner?
look() {
	step=look
	config=$(systemctl show -p ExecStart gitlab-runner 2>/dev/null |
		sed -nE 's/.* (--config|-c)[ =]([^ ;]+).*/\2/p')
	config=${config:-/etc/gitlab-runner/config.toml}
	case $config in [!/]* | *[!A-Za-z0-9/._-]*) fail "cannot work with a path such as $config" ;; esac
	etc=$(readlink -f "${config%/*}")
	config=$etc/${config##*/}
	ca_file=$etc/outrigger-$deployment-ca.crt
	gitlab_ca_file=$etc/outrigger-$deployment-gitlab-ca.crt
	is_file "$config"
	is_file "$etc/.runner_system_id"
	# After a power cut. Where nobody but root may write.
	rm -rf /etc/.outrigger.??????
	work=$(mktemp -d /etc/.outrigger.XXXXXX)
	cd "$work"
	ours=no
	[ ! -e "$mine" ] || ours=yes
}

# mark FILE: leaves in "lines", for sed, which lines are our entry, with the empty one that we put above it;
# how many entries are ours in "count" and somebody else's in "others"; in "clash" one of our name among those.
mark() {
	: >lines
	: >clash
	NAME=$name URL=$url CA="\"$ca_file\"" HOST=$t_host LC_ALL=C awk '
	# Has KEY the value that we write, comments aside?
	function is(key, want) {
		want = ENVIRON[want]
		return index(value[key], want) == 1 &&
			substr(value[key], length(want) + 1) ~ /^[ \t\r]*(#|$)/
	}
	# An entry is ours by name, GitLab, and CA file or cluster: no mark lasts, the runner rewrites the file.
	function ours() {
		return is("runners.name", "NAME") && is("runners.url", "URL") &&
			(is("runners.kubernetes.ca_file", "CA") || is("runners.kubernetes.host", "HOST"))
	}
	# How many lines it has: comments at its end belong to what follows.
	function own(    i) {
		for (i = n; i && text[i] ~ /^[ \t\r]*(#|$)/;) i--
		return i
	}
	function next_part() {
		entry_done()
		n = inside = 0
		split("", value)
	}
	# Text in a multi-line string is no table.
	!multi && /^[ \t]*\[\[?[A-Za-z0-9_"\047. -]+\]\]?[ \t\r]*(#|$)/ {
		table = $0
		sub(/#.*/, "", table)
		gsub(/[] \t\r[]/, "", table)
		if (table !~ /^runners[.]/) next_part()
		if (table == "runners") {
			inside = 1
			top = NR
			gap = NR > 1 && before == ""
		}
		header = 1
	}
	inside && !header && !/^[ \t\r]*(#|$)/ {
		key = val = ""
		line = $0
		gsub(/^[ \t]+|[ \t\r]+$/, "", line)
		if (!multi && match(line, /^[A-Za-z0-9_-]+[ \t]*=[ \t]*/)) {
			key = substr(line, 1, RLENGTH)
			gsub(/[ \t=]/, "", key)
			value[table "." key] = val = substr(line, RLENGTH + 1)
		}
	}
	{
		line = $0
		if (!multi) mark = match($0, /^[^#"\047]*("""|\047\047\047)/) ? substr($0, RLENGTH - 2, 3) : "\n"
		if (gsub(mark, "", line) % 2) multi = !multi
		if (inside) text[++n] = $0
		before = $0
		header = 0
	}
	# An entry was read to its end.
	function entry_done() {
		if (ours()) {
			count++
			print top - gap "," top + own() - 1 "d" > "lines"
		} else if (inside) {
			others++
			if (is("runners.name", "NAME")) print value["runners.url"] > "clash"
		}
	}
	END {
		next_part()
		print count + 0 > "count"
		print others + 0 > "others"
	}' "$1"
}

# What is to go? Then the new config.toml lies ready.
plan() {
	step=config
	: >old
	[ ! -e "$config" ] || fetch "$config" old
	mark old
	count=$(cat count) others=$(cat others)
	if [ "$count" -eq 0 ] && [ -s clash ] && { [ -e "$state.digest" ] || [ -e "$ca_file" ]; }; then
		# It may be ours all the same, and need what would go now.
		fail "$config has an entry $name for $(cat clash), not known as ours: are --gitlab-url and --kubernetes-host right?"
	fi
	sed -f lines old >new
	whole=no
	[ "$ours $others" != 'yes 0' ] || whole=yes
}

# As the launch script set it up: a running job may end first.
stop_service() {
	step=stop
	systemctl cat gitlab-runner >/dev/null 2>&1 || return 0
	say 'stopping gitlab-runner; a running job may end first'
	systemctl stop gitlab-runner
	plan # once more: it writes the file when it renews its token
	[ "$whole" = yes ] || {
		systemctl start gitlab-runner
		fail "somebody has added an entry to $config meanwhile: run this again"
	}
}

remove_entry() {
	step=config
	if [ "$whole" = yes ]; then
		: >new
		[ ! -d "$etc" ] || inside rm -f "$config" "$etc/.runner_system_id" >/dev/null
	elif [ "$count" -gt 0 ]; then
		unchanged || fail "$config has changed meanwhile: run this again"
		put new "$config" 600
		say "our entry in $config is gone; the service sees it by itself"
	fi
	for file in "$ca_file" "$gitlab_ca_file"; do
		if grep -qF "\"$file\"" new; then
			say "$file stays: an entry of others names it"
		else
			[ ! -d "$etc" ] || inside rm -f "$file" >/dev/null
		fi
	done
}

# What the launch script brought, gitlab-runner first.
remove_runner() {
	step=remove
	set --
	for package in gitlab-runner gitlab-runner-helper-images; do
		! dpkg -s "$package" >/dev/null 2>&1 || set -- "$@" "$package"
	done
	if [ $# -gt 0 ]; then
		apt-mark unhold "$@"
		retry apt-get apt_get purge "$@"
		rm -f /var/cache/apt/archives/gitlab-runner_*.deb /var/cache/apt/archives/gitlab-runner-helper-images_*.deb
	fi
	binary=/usr/local/bin/gitlab-runner
	if [ -e "$binary" ]; then
		[ ! -e /etc/systemd/system/gitlab-runner.service ] || gitlab-runner uninstall
		rm "$binary"
	fi
	unit=/etc/systemd/system/gitlab-runner.service.d
	rm -f "$unit/outrigger.conf"
	rmdir "$unit" 2>/dev/null || : # somebody else's drop-ins stay
	! command -v systemctl >/dev/null || systemctl daemon-reload

	apt=/etc/apt
	rm -f "$apt/sources.list.d/outrigger-gitlab-runner.list" "$apt/keyrings/outrigger-gitlab-runner.asc" \
		"$apt/preferences.d/outrigger-gitlab-runner.pref"
	cloud=/etc/cloud/cloud.cfg.d/99-outrigger-metadata.cfg
	if [ -e "$cloud" ]; then
		ip route del prohibit 169.254.169.254 || :
		ip -6 route del prohibit fd00:ec2::254 || :
		rm "$cloud"
	fi
	remove_user outrigger
	remove_user gitlab-runner
	cd /
	rm -rf "$work"
	[ ! -d "$etc" ] || rmdir "$etc" || say "$etc stays: it is not empty"
}

# Only one that was not here before the launch script, and whose home nobody has used.
remove_user() {
	entry=$(getent passwd "$1") || return 0
	! grep -q "^$1:" "$mine" || return 0
	home=$(printf '%s' "$entry" | cut -d : -f 6)
	if [ -d "$home" ] && ! rmdir "$home"; then
		say "the user $1 stays: $home is not empty"
	else
		userdel "$1"
	fi
}

# Last of all what tells the next run what is ours, and this log.
forget() {
	step=end
	if [ "$whole" = yes ]; then
		say "gitlab-runner and all that came with it are gone"
	elif [ "$ours" = yes ]; then
		say "gitlab-runner stays for the entries of others in $config; run this again when they are gone"
	else
		say "nothing of $deployment is left; what else there is was not ours"
	fi
	cd /
	rm -f "$state.json" "$state.digest" "$state.digest.new" "$state-launch.sh"
	[ "$whole" = no ] || rm -f "$mine"
	# The service that stays for entries of others needs it.
	[ "$ours $whole" = 'yes no' ] || rm -f "$state.proxy"
	rmdir "${state%/*}" 2>/dev/null || : # another deployment's stays
	rm -f "$log"
}

main() {
	set -eu
	exec </dev/null
	settings
	begin
	look
	plan
	[ "$whole" = no ] || stop_service
	remove_entry
	[ "$whole" = no ] || remove_runner
	forget
}

# The last line: a script cut short does nothing.
main
