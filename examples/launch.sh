#!/bin/sh
# Installs a GitLab Runner on this machine; its jobs run as pods in a Kubernetes cluster.
# Written by outrigger 0.1.0. Runs as root, as often as you like.
# outrigger-launch-script deployment=kubernetes-runner digest=46538ee4ce27edb5689173be08772bccc1a07c660c0e7eb8ba35230bb14cc8b1
#   cluster   acme-ci
#   endpoint  https://203.0.113.12
#   gitlab    https://gitlab.example.com
#   runner    gitlab-runner 19.4.1, tags k8s-runner
# HOLDS TWO SECRETS, in settings(). A VM keeps its launch script where root and, through the
# metadata service, any local user can read it. Delete your copy once the runner is online.
# Changes: the gitlab-runner packages, their apt source, key and pin; ONE entry and our CA files in
# /etc/gitlab-runner; the outcome in /var/lib/outrigger; a log in /var/log.

# Every value from outside, each as one quoted word. Those named t_ are TOML strings.
settings() {
	deployment='kubernetes-runner'
	outrigger='0.1.0'
	digest='46538ee4ce27edb5689173be08772bccc1a07c660c0e7eb8ba35230bb14cc8b1'
	root='' # empty except in tests
	version='19.4.1'
	apt_url='https://packages.gitlab.com/runner/gitlab-runner'
	apt_host='packages.gitlab.com'
	key_url='https://packages.gitlab.com/gpgkey/gpg.key'
	protocols='=https'
	key_fingerprint='F6403F6544A38863DAA0B6E03F01618A51312F3F'
	t_name='"kubernetes-runner"'
	t_url='"https://gitlab.example.com"'
	t_host='"https://203.0.113.12"'
	t_namespace='"kubernetes-runner-jobs"'
	t_account='"kubernetes-runner-job"'
	t_image='"alpine:latest"'
	ca='-----BEGIN CERTIFICATE-----
MIIBEXAMPLEnotACertificate+/=
-----END CERTIFICATE-----
'
	t_token='"glrt-EXAMPLE-not-a-token"'
	t_bearer='"eyJhbGciOiJSUzI1NiIsImtpZCI6IkVYQU1QTEUifQ.EXAMPLE.not-a-token"'
	etc=$root/etc/gitlab-runner
	config=$etc/config.toml
	ca_file=$etc/outrigger-$deployment-ca.crt
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
			print line
	}
	# An entry was read to its end.
	function entry_done(    i) {
		i = 1
		if (is("runners.name", "NAME") && is("runners.url", "URL") &&
				(is("runners.kubernetes.ca_file", "CA") || is("runners.kubernetes.host", "HOST"))) {
			if (++count == 1) place()
			# Comments at its end belong to what follows.
			for (i = n + 1; i > 1 && text[i - 1] ~ /^[ \t\r]*(#|$)/;) i--
		}
		for (; i <= n; i++) print text[i]
		n = inside = 0
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
	put "$ca_file" "$ca"
	cat >"$work/entry" <<EOF
[[runners]]
  name = $t_name
  url = $t_url
  token = $t_token
  executor = "kubernetes"
  [runners.kubernetes]
    host = $t_host
    ca_file = "$ca_file"
    bearer_token = $t_bearer
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
	applying=$(printf '%s %s' "$t_token" "$t_bearer" | sha256sum)
	applying="$digest ${applying%% *}"
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
