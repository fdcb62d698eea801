#!/bin/sh
# Installs a GitLab Runner on this machine; its jobs run as pods in a Kubernetes cluster.
# Written by outrigger {{ outrigger_version | comment }}. Runs as root, as often as you like.
# outrigger-launch-script deployment={{ deployment | comment }} digest={{ digest }}
#   cluster   {{ cluster | comment }}
#   endpoint  {{ kubernetes_host | comment }}
#   gitlab    {{ gitlab_url | comment }}
#   runner    gitlab-runner {{ runner_version | comment }}, tags {{ tags | comment }}
{% if not installer_is_default %}
#   NOT THE DEFAULT INSTALLER: packages from {{ apt_url | comment }},
#   key {{ key_fingerprint | comment }} from {{ key_url | comment }}
{% endif %}
{% if has_secrets %}
# HOLDS TWO SECRETS, in settings(). A VM keeps its launch script where root and, through the
# metadata service, any local user can read it. Delete your copy once the runner is online.
{% else %}
# Holds no secret: this is the update form, it keeps the tokens that are on the machine.
{% endif %}
# Changes: the gitlab-runner packages, their apt source, key and pin; ONE entry and our CA files in
# /etc/gitlab-runner; the outcome in /var/lib/outrigger; a log in /var/log.

# Every value from outside, each as one quoted word. Those named t_ are TOML strings.
settings() {
	deployment={{ deployment | sh }}
	outrigger={{ outrigger_version | sh }}
	digest={{ digest | sh }}
	root={{ root | sh }} # empty except in tests
	version={{ runner_version | sh }}
	apt_url={{ apt_url | sh }}
	apt_host={{ apt_host | sh }}
	key_url={{ key_url | sh }}
	protocols={{ key_protocols | sh }}
	key_fingerprint={{ key_fingerprint | sh }}
	t_name={{ runner_name | toml | sh }}
	t_url={{ gitlab_url | toml | sh }}
	t_host={{ kubernetes_host | toml | sh }}
	t_namespace={{ namespace | toml | sh }}
	t_account={{ job_service_account | toml | sh }}
	t_image={{ image | toml | sh }}
{% if has_ca %}
	ca={{ ca_pem | sh }}
{% endif %}
{% if has_gitlab_ca %}
	gitlab_ca={{ gitlab_ca_pem | sh }}
{% endif %}
{% if has_secrets %}
	t_token={{ runner_token | toml | sh }}
	t_bearer={{ bearer_token | toml | sh }}
{% endif %}
	etc=$root/etc/gitlab-runner
	config=$etc/config.toml
	ca_file=$etc/outrigger-$deployment-ca.crt
{% if has_gitlab_ca %}
	gitlab_ca_file=$etc/outrigger-$deployment-gitlab-ca.crt
{% endif %}
	state=$root/var/lib/outrigger/$deployment
	log=$root/var/log/outrigger-$deployment.log
	step=start
	reason=''
	work=''
}

# One line to the log and the console. Never a secret.
say() {
	printf 'outrigger: %s\n' "$1" | tee -a "$log" >&3
}

fail() {
	reason=$1
	exit 1
}

# At any end: clean up and record the outcome.
finish() {
	code=$?
	trap - EXIT
	set +e
	[ -z "$work" ] || rm -rf "$work"
	result=ok
	if [ "$code" -ne 0 ]; then
		result=failed
		say "FAILED in step $step: ${reason:=a command failed, see $log}"
	fi
	reason=$(printf '%s' "$reason" | tr -cd ' !#-[]-~') # without what JSON would escape
	cat >"$state.new" <<EOF
{"deployment":"$deployment","result":"$result","exit_code":$code,"step":"$step","reason":"$reason","digest":"$digest","outrigger":"$outrigger","gitlab_runner":"$(installed)","finished":"$(date -u +%Y-%m-%dT%H:%M:%SZ)"}
EOF
	chmod 644 "$state.new" && mv -f "$state.new" "$state.json"
	exit $code
}

begin() {
	[ "$(id -u)" -eq 0 ] || { echo 'outrigger: run this as root' >&2; exit 1; }
	mkdir -p "${state%/*}" "${log%/*}" "$etc"
	chmod 755 "${state%/*}"
	exec 3>&1 >>"$log" 2>&1 # 3 is the console
	chmod 600 "$log"
	trap finish EXIT
	trap 'exit 143' HUP INT TERM
	say "$deployment, log in $log"
	command -v systemctl >/dev/null || fail 'systemd is needed, there is no systemctl'
	[ ! -L "$config" ] || fail "$config is a symbolic link"
	had_config=no
	[ ! -e "$config" ] || had_config=yes
	work=$(mktemp -d "$etc/.outrigger.XXXXXX") # beside config.toml, so that mv is atomic
}

# The installed version, or nothing.
installed() {
	dpkg-query -W -f='${db:Status-Status}=${Version}' gitlab-runner 2>/dev/null | sed -n 's/^installed=//p'
}

# Five attempts: networks fail at first boot.
retry() {
	for pause in 5 10 20 40; do
		"$@" && return
		say "$1 failed, again in $pause s"
		sleep $pause
	done
	"$@" || fail "$1 failed, see $log"
}

# Waits for apt's lock, asks nothing, restarts no other service.
apt() {
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
	retry apt-get -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \
		-o Dpkg::Options::=--force-confold --no-install-recommends "$@"
}

install_runner() {
	step=install
	have=$(installed)
	if [ -n "$have" ] && dpkg --compare-versions "$have" ge "$version"; then
		say "gitlab-runner $have is installed"
		return
	fi
	# shellcheck disable=SC1091 # in a subshell: it sets names of its own
	os=$(. "$root/etc/os-release" && printf '%s %s' "${ID:-}" "${VERSION_CODENAME:-}")
	case $os in
		'debian '[a-z]* | 'ubuntu '[a-z]*) ;;
		*) fail "needs Debian or Ubuntu, not $os" ;;
	esac
	apt=$root/etc/apt
	name='outrigger-gitlab-runner'
	list=$apt/sources.list.d/$name.list
	other=$(grep -lsF "$apt_url" "$apt"/sources.list.d/* | grep -vxF "$list") || :
	[ -z "$other" ] || fail "$other has this apt source: upgrade from there"

	apt update
	apt --no-upgrade install ca-certificates curl gpg

	# The key is trusted for its fingerprint, and only alone in its file.
	retry curl -fsSL --max-time 60 --proto "$protocols" -o "$work/key" "$key_url"
	gpg --homedir "$work" --batch --show-keys --with-colons "$work/key" >"$work/keys" ||
		fail "$key_url holds no OpenPGP key"
	found=$(awk -F: '$1 == "pub" { p = 1 } p && $1 == "fpr" { print $10; p = 0 }' "$work/keys")
	[ "$found" = "$key_fingerprint" ] ||
		fail "the key of $key_url is $found, not $key_fingerprint"

	# Nothing but these two packages may come from this source.
	key=$apt/keyrings/$name.asc
	pin=$apt/preferences.d/$name.pref
	mkdir -p "$apt/keyrings"
	cat "$work/key" >"$key"
	printf 'deb [signed-by=%s] %s/%s main\n' "$key" "$apt_url" "$os" >"$list"
	cat >"$pin" <<EOF
Package: *
Pin: origin "$apt_host"
Pin-Priority: -1

Package: gitlab-runner gitlab-runner-helper-images
Pin: origin "$apt_host"
Pin-Priority: 990
EOF
	chmod 755 "$apt/keyrings"
	chmod 644 "$key" "$list" "$pin" # apt reads them as another user
	apt update
	apt install "gitlab-runner=$version-1" "gitlab-runner-helper-images=$version-1"
}

# put FILE TEXT: replaces FILE at once; an equal one is left alone.
put() {
	printf '%s' "$2" >"$work/put"
	cmp -s "$work/put" "$1" || mv -f "$work/put" "$1"
}

# In $work: "new" is "old" with "entry" in the place of ours, or at the end. Ours has our name,
# GitLab, and CA file or cluster: a mark would not last, the runner rewrites the file.
replace_entry() {
	cd "$work"
	NAME=$t_name URL=$t_url CA="\"$ca_file\"" HOST=$t_host LC_ALL=C awk '
	# Has KEY the value that we write, comments aside?
	function is(key, want) {
		want = ENVIRON[want]
		return index(value[key], want) == 1 &&
			substr(value[key], length(want) + 1) ~ /^[ \t\r]*(#|$)/
	}
	function place(    line) {
		while ((getline line < "entry") > 0)
{% if has_secrets %}
			print line
{% else %}
			if (line == "token") printf "%s", token
			else if (line == "bearer") print "    bearer_token = " value["runners.kubernetes.bearer_token"]
			else print line
{% endif %}
	}
	# An entry was read to its end.
	function entry_done(    i) {
		i = 1
		if (is("runners.name", "NAME") && is("runners.url", "URL") &&
{% if not has_secrets %}
				value["runners.token"] != "" && value["runners.kubernetes.bearer_token"] != "" &&
{% endif %}
				(is("runners.kubernetes.ca_file", "CA") || is("runners.kubernetes.host", "HOST"))) {
			if (++count == 1) place()
			# Comments at its end belong to what follows.
			for (i = n + 1; i > 1 && text[i - 1] ~ /^[ \t\r]*(#|$)/;) i--
		}
		for (; i <= n; i++) print text[i]
		n = inside = 0
{% if not has_secrets %}
		token = ""
{% endif %}
		split("", value)
	}
	# Text in a multi-line string is no table.
	!multi && /^[ \t]*\[\[?[A-Za-z0-9_"\047. -]+\]\]?[ \t\r]*(#|$)/ {
		table = $0
		sub(/#.*/, "", table)
		gsub(/[] \t\r[]/, "", table)
		if (table !~ /^runners[.]/) entry_done()
		if (table == "runners") inside = 1
	}
	!multi && inside && match($0, /^[ \t]*[a-z_]+[ \t]*=[ \t]*/) {
		key = substr($0, 1, RLENGTH)
		gsub(/[ \t=]/, "", key)
		value[table "." key] = substr($0, RLENGTH + 1)
{% if not has_secrets %}
		if (table == "runners" && key ~ /^(id|token|token_obtained_at|token_expires_at)$/) token = token $0 "\n"
{% endif %}
	}
	{
		line = $0
		if (!multi) mark = match($0, /^[^#"\047]*("""|\047\047\047)/) ? substr($0, RLENGTH - 2, 3) : "\n"
		if (gsub(mark, "", line) % 2) multi = !multi
		if (inside) text[++n] = $0; else print
	}
	END {
		entry_done()
		if (!count) { print ""; place() }
		print count + 0 > "count"
}' old >new
}

write_config() {
	step=config
{% if has_ca %}
	put "$ca_file" "$ca"
{% endif %}
{% if has_gitlab_ca %}
	put "$gitlab_ca_file" "$gitlab_ca"
{% endif %}
	cat >"$work/entry" <<EOF
[[runners]]
  name = $t_name
  url = $t_url
{% if has_secrets %}
  token = $t_token
{% else %}
token
{% endif %}
  executor = "kubernetes"
{% if has_gitlab_ca %}
  tls-ca-file = "$gitlab_ca_file"
{% endif %}
  [runners.kubernetes]
    host = $t_host
{% if has_ca %}
    ca_file = "$ca_file"
{% endif %}
{% if has_secrets %}
    bearer_token = $t_bearer
{% else %}
bearer
{% endif %}
    namespace = $t_namespace
    image = $t_image
    service_account = $t_account
    automount_service_account_token = false
    privileged = false
EOF
	if [ $had_config = yes ]; then
		cp "$config" "$work/old"
		cp -p "$config" "$work/new" # for its owner
	else
		printf 'concurrent = 4\ncheck_interval = 3\n' >"$work/old"
	fi
	replace_entry
	read -r count <"$work/count"

	# Same digest, same hash of tokens as last time: nothing to do. The runner may have replaced its
	# token since.
	applied=''
	[ ! -e "$state.digest" ] || applied=$(cat "$state.digest")
{% if has_secrets %}
	applying=$(printf '%s %s' "$t_token" "$t_bearer" | sha256sum)
	applying="$digest ${applying%% *}"
{% else %}
	[ "$count" -gt 0 ] ||
		fail "$config has no entry of $deployment with its tokens: use the script with secrets"
	applying="$digest ${applied#* }"
{% endif %}
	if [ "$count $applying" = "1 $applied" ]; then
		say 'config.toml needs no change'
		return
	fi
	[ $had_config = no ] || cmp -s "$config" "$work/old" || fail "$config changed: run this again"
	chmod 600 "$work/new"
	mv -f "$work/new" "$config"
	echo "$applying" >"$state.digest.new"
	mv -f "$state.digest.new" "$state.digest"
	say 'config.toml is written'
}

# A running service sees a new config.toml by itself; a restart would end its jobs.
start_service() {
	step=service
	systemctl enable gitlab-runner
	systemctl is-active --quiet gitlab-runner || systemctl start gitlab-runner
}

main() {
	set -eu
	umask 077
	exec </dev/null
	settings
	begin
	install_runner
	write_config
	start_service
	step=end
	say 'the service is running'
}

# The last line: a script cut short does nothing.
main "$@"
