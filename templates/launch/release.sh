# Releases that GitLab has packages for.
release() {
	# shellcheck disable=SC1091 # sets names: in a subshell
	os=$(. /etc/os-release && echo "${ID:-}/${VERSION_CODENAME:-}")
	codename=" ${os#*/} "
	case ${os%%/*}:' {{ releases }} ' in
		debian:*"$codename"* | ubuntu:*"$codename"*) ;;
		*) fail "GitLab has no packages for $os (Debian from 11, Ubuntu from 18.04)" ;;
	esac
}

{% include "apt_get.sh" %}

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
{% if sha256 %}

check_sha256() {
	is=$(sha256sum "$1")
	[ "${is%% *}" = "$sha256" ] || fail "the SHA-256 of ${1##*/} is ${is%% *}, not $sha256"
}
{% endif %}
