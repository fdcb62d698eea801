# Releases that GitLab has packages for.
release() {
	# shellcheck disable=SC1091 # sets names: in a subshell
	os=$(. /etc/os-release && echo "${ID:-}/${VERSION_CODENAME:-}")
	case $os in
		debian/bullseye | debian/bookworm | debian/trixie | debian/forky | debian/duke) ;;
		ubuntu/bionic | ubuntu/focal | ubuntu/jammy | ubuntu/noble | ubuntu/questing | ubuntu/resolute) ;;
		*) fail "GitLab has no packages for $os (Debian from 11, Ubuntu from 18.04)" ;;
	esac
}

{% include "apt_get.sh" %}
{% if sha256 %}

check_sha256() {
	is=$(sha256sum "$1")
	[ "${is%% *}" = "$sha256" ] || fail "the SHA-256 of ${1##*/} is ${is%% *}, not $sha256"
}
{% endif %}
