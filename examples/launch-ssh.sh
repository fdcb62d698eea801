#!/bin/sh
# Makes this machine a GitLab Runner whose jobs run as pods in a Kubernetes cluster.
# By outrigger 0.1.0; runs as root, as often as you like.
# outrigger-launch-script deployment=kubernetes-runner digest=e755d42bc19829213075fec2ecf5d182
#   cluster  acme-ci at https://203.0.113.12
#   gitlab   https://gitlab.example.com
#   runner   gitlab-runner 19.4.1 by apt, tags k8s-runner
#   made for a host over SSH, which runs it when you run it
#   read by  you and root on the host; until you delete your files
# Holds no secret: it keeps the tokens that are on the machine, or takes them from a file: sh THIS SECRETS
# Where gitlab-runner is there already, only ONE entry of its config.toml and our CA files change.
# Outcome in /var/lib/outrigger, log in /var/log.

# Values from outside, a quoted word each.
settings() {
	deployment='kubernetes-runner'
	digest='e755d42bc19829213075fec2ecf5d182'
	# Seconds, between attempts and for apt's lock.
	pauses='5 10 20 40' lock_wait=120
	version='19.4.1'
	apt_url='https://packages.gitlab.com/runner/gitlab-runner'
	key_url='https://packages.gitlab.com/gpgkey/gpg.key'
	fingerprint='F6403F6544A38863DAA0B6E03F01618A51312F3F'
	host='https://203.0.113.12'
	account='system:serviceaccount:kubernetes-runner:kubernetes-runner'
	name='"kubernetes-runner"' # this and the next two as TOML
	url='"https://gitlab.example.com"'
	t_host='"https://203.0.113.12"'
	ca='-----BEGIN CERTIFICATE-----
MIIBEXAMPLEnotACertificate+/=
-----END CERTIFICATE-----
'
	token=''
	expires=''
	bearer=''
}

# Our entry in config.toml.
entry() {
	cat <<'END'
[[runners]]
  executor = "kubernetes"
  limit = 4
  name = "kubernetes-runner"
  request_concurrency = 4
  url = "https://gitlab.example.com"
END
	cat token
	cat <<'END'
  [runners.kubernetes]
    automount_service_account_token = false
    host = "https://203.0.113.12"
    image = "alpine:latest"
    namespace = "kubernetes-runner-jobs"
    privileged = false
    service_account = "kubernetes-runner-job"
END
	printf '    ca_file = "%s"\n    bearer_token = "%s"\n' "$ca_file" "$bearer"
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
	[ -z "$locked" ] || give
	result=ok
	if [ "$code" -ne 0 ]; then
		result=failed
		say "FAILED in step $step: ${reason:=$(last_error)}"
	fi
	# Without what JSON would escape.
	reason=$(printf '%s' "$reason" | tr -cd ' !#-[]-~')
	cat >"$state.new" <<END &&
{"deployment":"$deployment","result":"$result","step":"$step","reason":"$reason","digest":"e755d42bc19829213075fec2ecf5d182","delivery":"${OUTRIGGER_DELIVERY-}","outrigger":"0.1.0","gitlab_runner":"$(installed)","finished":"$(date -u +%FT%TZ)"}
END
		mv -f "$state.new" "$state.json"
	exit "$code"
}

begin() {
	[ "$(id -u)" -eq 0 ] || { echo 'outrigger: run this as root' >&2; exit 1; }
	# What is secret stays below $work, which only root may enter.
	umask 022
	step=start reason='' work='' warned='' locked=''
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

# at_least VERSION: is it installed, or a later one?
at_least() {
	[ "$(printf '%s\n' "$1" "$(installed)" | sort -V | head -n 1)" = "$1" ]
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

# Whose gitlab-runner is here: them (only our entry may change), us, or nobody's yet?
find_runner() {
	step=look
	config=$(systemctl show -p ExecStart gitlab-runner 2>/dev/null |
		sed -nE 's/.* (--config|-c)[ =]([^ ;]+).*/\2/p')
	config=${config:-/etc/gitlab-runner/config.toml}
	case $config in [!/]* | *[!A-Za-z0-9/._-]*) fail "cannot work with a path such as $config" ;; esac
	etc=$(readlink -f "${config%/*}")
	config=$etc/${config##*/}
	ca_file=$etc/outrigger-$deployment-ca.crt
	is_file "$config"
	is_file "$etc/.runner_system_id"
	# After a power cut. Where nobody but root may write.
	rm -rf /etc/.outrigger.??????
	work=$(mktemp -d /etc/.outrigger.XXXXXX)
	cd "$work"
	have=$(installed)
	owner=them
	if [ -e "$mine" ]; then
		owner=us
	elif [ -z "$have" ] && [ ! -e "$config" ]; then
		owner=nobody
	fi
	if [ "$owner" = them ]; then
		[ -n "$have" ] || fail "$config is here, and gitlab-runner is not"
		at_least "$version" || fail "gitlab-runner $have is here and not ours to replace, this needs $version"
		say "gitlab-runner $have is here: only our entry will change"
	fi
	[ -d "$etc" ] || mkdir -m 700 "$etc"
}

# Releases that GitLab has packages for.
release() {
	# shellcheck disable=SC1091 # sets names: in a subshell
	os=$(. /etc/os-release && echo "${ID:-}/${VERSION_CODENAME:-}")
	codename=" ${os#*/} "
	case ${os%%/*}:' bullseye bookworm trixie forky duke bionic focal jammy noble questing resolute ' in
		debian:*"$codename"* | ubuntu:*"$codename"*) ;;
		*) fail "GitLab has no packages for $os (Debian from 11, Ubuntu from 18.04)" ;;
	esac
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

# Somebody's source may be broken, or never answer: what counts is whether these packages can be had. So the others
# are asked only if what is known does not do.
get() {
	warned=''
	! apt_get install "$@" || return 0
	say "asking apt's other sources"
	apt_get -o Acquire::Retries=1 update || {
		warned=$(last_error)
		warned="${warned%, see *}; then "
		say 'apt-get update failed, going on with what is known'
	}
	apt_get install "$@" && warned=''
}

# pin_by WHAT: only these packages may come from this source.
pin_by() {
	cat >"$pin" <<END
Package: *
Pin: $1
Pin-Priority: -1

Package: gitlab-runner gitlab-runner-helper-images
Pin: $1
Pin-Priority: 990
END
}

# Others are on the same host, the distribution maybe: then the source is known by its Release file.
tell_apart() {
	release=$(apt-cache -o "Dir::Etc::SourceList=$list" -o Dir::Etc::SourceParts=- policy |
		sed -nE 's/^ *release (v=[^,]*,)?o=([^,]+),.*l=([^,]+),c=.*/o=\2,l=\3/p' | sort -u)
	pin_by "release ${release:-none}"
	# For what the others say of themselves.
	apt_get -o Acquire::Retries=1 update || :
	out=$(apt-cache policy | grep -E '^ *-1 ') || :
	case $(printf '%s\n' "$out" | grep -cvF " $apt_url/") in 0) ;; *) out='' ;; esac
	[ -n "$out" ] || {
		rm -f "$list" "$pin"
		fail "other apt sources are on packages.gitlab.com, and no Release file tells them from this one: use --install-method binary"
	}
}

install_runner() {
	step=install
	! grep -qsx whole "$mine" || ! at_least "$version" || return 0
	release
	apt=/etc/apt
	list=$apt/sources.list.d/outrigger-gitlab-runner.list
	other=$(grep -lsF "$apt_url" "$apt"/sources.list.d/* | grep -vxF "$list") || :
	[ -z "$other" ] || fail "$other has this apt source: upgrade from there"
	{ type curl gpg && [ -e /etc/ssl/certs/ca-certificates.crt ]; } ||
		retry apt-get get --no-upgrade ca-certificates curl gpg

	# Apt gets what gpg has read, and not the file: the two find different keys in one.
	retry curl curl -fsSL --max-time 60 --proto '=https' -o key "$key_url"
	mkdir -m 700 ring
	gpg --homedir ring --no-autostart --batch --import key || fail "$key_url holds no OpenPGP key"
	gpg --homedir ring --no-autostart --batch --list-keys --with-colons >keys
	found=$(awk -F: '$1 == "pub" { p = 1 } p && $1 == "fpr" { print $10; p = 0 }' keys)
	[ "$found" = "$fingerprint" ] || fail "the key of $key_url is $found, not $fingerprint"

	key=$apt/keyrings/outrigger-gitlab-runner.asc
	pin=$apt/preferences.d/outrigger-gitlab-runner.pref
	mkdir -p "$apt/keyrings"
	# Ours from now on, but not these users.
	[ -e "$mine" ] || getent passwd gitlab-runner outrigger >"$mine" || :
	gpg --homedir ring --no-autostart --batch --armor --export "$fingerprint" >"$key"
	printf 'deb [signed-by=%s] %s/%s %s main\n' "$key" "$apt_url" "${os%/*}" "${os#*/}" >"$list"
	pin_by 'origin "packages.gitlab.com"'
	# This source alone, and first: an old key of it, or a broken source of others, is not in its way.
	retry apt-get apt_get -o "Dir::Etc::SourceList=$list" -o Dir::Etc::SourceParts=- -o APT::Get::List-Cleanup=0 update
	# shellcheck disable=SC2016 # for apt
	! apt-get indextargets --format '$(REPO_URI)' | grep -iE '://([^/]*@)?packages[.]gitlab[.]com[:/]' | grep -qvF "$apt_url/" ||
		tell_apart
	retry apt-get get --download-only "gitlab-runner=$version-1" "gitlab-runner-helper-images=$version-1"
	lock
	retry apt-get get "gitlab-runner=$version-1" "gitlab-runner-helper-images=$version-1"
	at_least "$version" || fail "gitlab-runner $version does not run"
	echo whole >>"$mine"
}

# edit OLD NEW: NEW is OLD with the file "entry" in the place of ours, or at the end. It leaves what was
# found of ours: "count", its lines in "was", what they say in "said", tokens in "token.was" and
# "bearer.was"; and in "clash" an entry of our name that is not ours.
edit() {
	for file in said was clash token.was bearer.was; do : >$file; done
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
		token = said = ""
		split("", value)
	}
	# Text in a multi-line string is no table.
	!multi && /^[ \t]*\[\[?[A-Za-z0-9_"\047. -]+\]\]?[ \t\r]*(#|$)/ {
		table = $0
		sub(/#.*/, "", table)
		gsub(/[] \t\r[]/, "", table)
		if (table !~ /^runners[.]/) next_part()
		if (table == "runners") inside = 1
		header = 1
	}
	# What an entry says: not what the runner adds when it rewrites the file.
	inside && !header && !/^[ \t\r]*(#|$)/ {
		key = val = ""
		line = $0
		gsub(/^[ \t]+|[ \t\r]+$/, "", line)
		if (!multi && match(line, /^[A-Za-z0-9_-]+[ \t]*=[ \t]*/)) {
			key = substr(line, 1, RLENGTH)
			gsub(/[ \t=]/, "", key)
			value[table "." key] = val = substr(line, RLENGTH + 1)
		}
		if (table == "runners" && key ~ /^(id|token|token_obtained_at|token_expires_at)$/) token = token $0 "\n"
		else if (val !~ /^(""|0|false|\[\])$/) said = said line "\n"
	}
	{
		line = $0
		if (!multi) mark = match($0, /^[^#"\047]*("""|\047\047\047)/) ? substr($0, RLENGTH - 2, 3) : "\n"
		if (gsub(mark, "", line) % 2) multi = !multi
		if (inside) text[++n] = $0; else print
		header = 0
	}
	function place(    line) {
		while ((getline line < "entry") > 0) print line
	}
	# An entry was read to its end.
	function entry_done(    i, k) {
		i = 1
		if (ours()) {
			i = own() + 1
			if (++count == 1) {
				place()
				for (k = 1; k < i; k++) print text[k] > "was"
				printf "%s", said > "said"
				printf "%s", token > "token.was"
				print value["runners.kubernetes.bearer_token"] > "bearer.was"
			}
		} else if (is("runners.name", "NAME")) print value["runners.url"] > "clash"
		for (; i <= n; i++) print text[i]
	}
	END {
		next_part()
		if (!count) { print ""; place() }
		print count + 0 > "count"
	}' "$1" >"$2"
}

says() {
	edit "$1" rest
	hash <said
}

# global FILE: what is asked of the runner as a whole, and FILE without it.
global() {
	printf '%s\n' 'concurrent = 4'
	awk '/^ *\[/ { rest = 1 } rest || tolower($0) !~ /^[ \t"]*(concurrent)[ \t"]*=/' "$1"
}

# Is there something to do? Then the new file lies ready.
plan_config() {
	step=config
	if [ -e "$config" ]; then
		fetch "$config" old
	else
		printf '%s\n' 'concurrent = 4' >old
	fi
	: >entry
	edit old rest
	count=$(cat count)
	[ ! -s clash ] || fail "$config has an entry $name for $(cat clash) that is not ours"
	# What was applied: the digest, and hashes of the tokens and of the entry.
	applied='' tokens='' said=''
	[ ! -e "$state.digest" ] || read -r applied tokens said <"$state.digest"
	given=$token$bearer
	if [ -n "$token" ]; then
		printf '  token = "%s"\n' "$token" >token
		[ -z "$expires" ] ||
			printf '  token_obtained_at = %s\n  token_expires_at = %s\n' "$(date -u +%FT%TZ)" "$expires" >>token
	else
		mv token.was token
		token=$(sed -nE 's/^[[:space:]]*token *= *"([^"]*)".*/\1/p' token)
	fi
	[ -n "$bearer" ] || bearer=$(tr -d '"' <bearer.was)
	{ [ -s token ] && [ -n "$bearer" ]; } || fail "$config has no entry of $deployment with the other token: give both"
	# What the runner made of its token is not a change.
	now=$tokens
	[ -z "$given" ] || now=$(printf '%s %s' "$token" "$bearer" | hash)
	todo=no
	if [ "$count $digest $now" = "1 $applied $tokens" ]; then
		# The runner may have replaced its token since: this leaves it alone.
		say 'config.toml needs no change'
		return
	fi
	todo=yes
	is=$(hash <said)
	mv was shown
	entry >text
	mv text entry
	edit old new
	[ "$count" -eq 0 ] || [ "$is" = "$said" ] || [ "$is" = "$(says new)" ] || edited shown
	allowed=$(sed -nE '/^ *\[/q; s/^concurrent *= *([0-9]+).*/\1/p' old)
	[ "$owner" != them ] || [ "${allowed:-1}" -ge 4 ] ||
		say "concurrent = ${allowed:-1} in $config: no more jobs at once, whatever our limit of 4"
	[ "$owner" = them ] || { global new >text && mv text new; }
}

hash() {
	sort | sha256sum | cut -d ' ' -f 1
}

# Shows the names of keys: any value may be a secret, and so may a line of a long string.
edited() {
	awk '{
		if (!long && match($0, /^[ \t]*(\[\[?[A-Za-z][A-Za-z0-9_. -]*\]\]?|[A-Za-z][A-Za-z0-9_.-]*[ \t]*=[^=])/)) {
			name = substr($0, 1, RLENGTH)
			print name ~ /=/ ? substr(name, 1, RLENGTH - 1) " (not shown)" : name
		}
		line = $0
		if (!long) mark = match(line, /"""|\047\047\047/) ? substr(line, RSTART, 3) : "\n"
		if (gsub(mark, "", line) % 2) long = !long
	}' "$1" >&3
	fail "somebody changed our entry in $config: only a script made with --replace-entry replaces it"
}

# loads FILE: can gitlab-runner? Only its words tell, and they go nowhere: tokens are among them.
loads() {
	gitlab-runner list --config "$1" 2>&1 | grep -q 'Listing configured runners'
}

write_config() {
	step=config
	# The package may have written one.
	unchanged || plan_config
	gitlab-runner lint --config check/config.toml || fail "gitlab-runner does not accept the new config.toml: $(last_error)"
	loads new || fail 'gitlab-runner does not accept the new config.toml'
	unchanged || fail "$config has changed meanwhile: run this again"
	# Hashes of what may contain passwords: for root only.
	(umask 077 && echo "$digest $now $(says new)" >"$state.digest.new")
	put ca "$ca_file" 644
	put new "$config" 600
	mv -f "$state.digest.new" "$state.digest"
	say 'config.toml is written'
}

# ask API REVIEW: as the runner will reach the cluster; leaves "answer".
ask() {
	failed=0
	code=$(curl -gsS --noproxy '*' --max-time 20 -o answer -w '%{http_code}' -H @header \
		-H 'Content-Type: application/json' --cacert ca --data-raw "$2" "$host/apis/$1") || failed=$?
	case $failed in
		0) [ "$code" != 401 ] || fail "$host refuses the token: revoked, expired, or of another cluster" ;;
		6 | 7 | 28) fail "this machine does not reach $host (a firewall, or authorized networks?): $(last_error)" ;;
		*) fail "$host: $(last_error)" ;;
	esac
}

# The cluster, with the CA and the token that the runner will have.
prove_cluster() {
	step=prove-cluster
	printf 'Authorization: Bearer %s\n' "$bearer" >header
	printf '%s' "$ca" >ca
	ask authentication.k8s.io/v1/selfsubjectreviews '{}'
	grep -q "\"username\": *\"$account\"" answer || fail "the token is not that of $account"
	ask authorization.k8s.io/v1/selfsubjectaccessreviews '{"spec":{"resourceAttributes":{"namespace":"kubernetes-runner-jobs","resource":"pods","verb":"create"}}}'
	grep -q '"allowed": *true' answer || fail "$account may not create pods"
	say "the cluster knows $account"
}

# GitLab, as the runner asks it. That ends with 0 although it failed: only its words tell.
prove_gitlab() {
	step=prove-gitlab
	mkdir check
	entry >check/config.toml
	id=.runner_system_id
	[ ! -e "$etc/$id" ] || fetch "$etc/$id" check/$id
	retry verify verify
	[ -e "$etc/$id" ] || [ ! -e check/$id ] || put check/$id "$etc/$id" 600
	grep -qE ' is (valid|alive)' words || fail "GitLab refuses the runner's token: $(grep Verifying words)"
	say 'GitLab knows the runner'
}

verify() {
	# Its lines have colours.
	gitlab-runner verify --config check/config.toml 2>&1 | awk '{gsub(/\033\[[0-9;]*m/,"")}1' >words
	cat words
	grep -qE ' is (not )?(valid|alive)|removed|[Ff]orbidden' words
}

# The service runs as a user that no job has, and may write nothing but its directory.
harden() {
	step=harden
	id outrigger || useradd --system --shell /usr/sbin/nologin outrigger
	service=/etc/systemd/system/gitlab-runner.service
	[ -e "$service" ] || { lock && gitlab-runner install --user outrigger --working-directory "$etc"; }
	mkdir -p "$service.d"
	cat >unit <<END
[Service]
User=outrigger
RestartSec=5
KillSignal=SIGQUIT
TimeoutStopSec=7200
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ReadWritePaths=$etc
ProtectHome=yes
PrivateTmp=yes
IPAddressDeny=169.254.169.254 fd00:ec2::254
END
	rm -f "$state.proxy"
	# The arguments show by which unit a process was started.
	run="$(command -v gitlab-runner) run --config $config --working-directory $etc --service outrigger-$(hash <unit)"
	printf 'ExecStart=\nExecStart=%s\n' "$run" >>unit
	want="$(id -u outrigger) 1 $run "
	same=yes
	cmp -s unit "$service.d/outrigger.conf" || { same=no && mv -f unit "$service.d/outrigger.conf"; }
	[ "$(stat -c %U "$etc" "$etc/.runner_system_id" "$config" | sort -u)" = outrigger ] || give
	systemctl daemon-reload
	# Before it knows of our entry. Where it does already, this waits for a running job, as the unit says now.
	{ [ $same = yes ] && is_hardened; } || systemctl restart gitlab-runner
}

# Is its process under this unit? Leaves user, NoNewPrivs and command line in "is".
is_hardened() {
	pid=/proc/$(systemctl show -p MainPID --value gitlab-runner)
	is=$(sed -nE 's/^(Uid|NoNewPrivs):\t([0-9]+).*/\2/p' "$pid/status" | tr '\n' ' ' && tr '\0' ' ' <"$pid/cmdline")
	[ "$is" = "$want" ]
}

# A running service sees a new config.toml by itself; a restart would end its jobs.
start_service() {
	step=service
	if [ "$owner" = them ]; then
		systemctl is-active --quiet gitlab-runner || say 'gitlab-runner is not running, and not ours to start'
		return
	fi
	systemctl enable --now gitlab-runner
	# It must be the same one a while later.
	tries=10 was=''
	until is_hardened && [ "$pid" = "$was" ]; do
		was=$pid
		tries=$((tries - 1))
		[ $tries -gt 0 ] || fail "the process of gitlab-runner is ${is:-not running}, not $want"
		sleep 2
	done
}

# The tokens, or one of them, from a file that was copied here; it is of no use afterwards.
read_secrets() {
	[ -f "$1" ] || fail "there is no file $1 with the tokens"
	read -r head <"$1"
	[ "$head" = "# outrigger-launch-secrets deployment=$deployment" ] || fail "$1 holds no tokens of $deployment"
	token=$(sed -n 's/^runner_token=//p' "$1")
	bearer=$(sed -n 's/^bearer_token=//p' "$1")
	expires=$(sed -n 's/^runner_expires=//p' "$1")
	[ -n "$token$bearer" ] || fail "$1 holds no token"
}

main() {
	set -eu
	exec </dev/null
	settings
	begin
	[ $# -eq 0 ] || read_secrets "$1"
	find_runner
	plan_config
	[ "$owner" = them ] || install_runner
	if [ "$todo" = yes ]; then
		prove_cluster
		prove_gitlab
	fi
	[ "$owner" = them ] || harden
	if [ "$todo" = yes ]; then
		write_config
	else
		step=config
		loads old || fail "gitlab-runner cannot load $config"
	fi
	start_service
	step=end
	say 'the service is running'
}

# The last line: a script cut short does nothing.
main "$@"
