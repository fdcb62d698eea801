#!/bin/sh
# Takes back what the launch script of outrigger made of this machine, and nothing else.
# By outrigger {{ outrigger_version | comment }}; runs as root, as often as you like.
# outrigger-uninstall-script deployment={{ deployment | comment }}
#   runner   {{ runner_name | comment }} at {{ gitlab_url | comment }}
# Always:    our entry of config.toml, our CA files, our state.
# Besides, if the launch script brought gitlab-runner and no entry of others is left: the service (a running
#            job may end first), gitlab-runner, its apt source, config.toml, its users if they came with it.
# Stays:     what apt installed with it from the distribution (ca-certificates, curl, gpg and what they need;
#            apt autoremove), apt's lists until the next apt update, apt's logs, what cloud-init keeps of user data.
# Holds no secret. GitLab and the cluster still know the runner: outrigger teardown.
# Says what it does; if it fails, the outcome is in /var/lib/outrigger and the log in /var/log. Then run it again.

# Every value from outside, each as one quoted word.
settings() {
	deployment={{ deployment | sh }}
	pauses='5 10 20 40' lock_wait=120 # seconds, between attempts and for apt's lock
	name={{ runner_name | toml | sh }} # this and the next two as TOML
	url={{ gitlab_url | toml | sh }}
{% if kubernetes_host %}
	t_host={{ kubernetes_host | toml | sh }}
{% else %}
	t_host=unknown # which no entry can say
{% endif %}
}

{% include "common.sh" %}

{% include "etc.sh" %}

{% include "apt_get.sh" %}

# What is here of ours, and who brought gitlab-runner?
look() {
	step=look
{% include "where.sh" %}
	ours=no
	[ ! -e "$mine" ] || ours=yes
}

# mark FILE: leaves in "lines", for sed, which lines are our entry, with the empty one that we put above it;
# how many entries are ours in "count" and somebody else's in "others"; in "clash" one of our name among those.
mark() {
	: >lines
	: >clash
	NAME=$name URL=$url CA="\"$ca_file\"" HOST=$t_host LC_ALL=C awk '
{% include "entries.awk" %}
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
