# pin_by WHAT: only these packages may come from this source.
pin_by() {
	cat >"$pin" <<END
Package: *
Pin: $1
Pin-Priority: -1

Package: gitlab-runner{% if method == "apt" %} gitlab-runner-helper-images{% endif %}

Pin: $1
Pin-Priority: 990
END
}

{% if shared or not installer_is_default %}
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
		fail "other apt sources are on {{ apt_host }}, and no Release file tells them from this one: use --install-method binary"
	}
}

{% endif %}
install_runner() {
	step=install
{% if exact %}
	! grep -qsx whole "$mine" || [ "$(installed)" != "$version" ] || return 0
{% else %}
	! grep -qsx whole "$mine" || ! at_least "$version" || return 0
{% endif %}
	release
	apt=/etc/apt
	list=$apt/sources.list.d/outrigger-gitlab-runner.list
{% if shared %}
	other=$(grep -lsF "$apt_url" "$apt"/sources.list.d/* | grep -vxF "$list") || :
	[ -z "$other" ] || fail "$other has this apt source: upgrade from there"
{% endif %}
	{ type curl gpg && [ -e /etc/ssl/certs/ca-certificates.crt ]; } ||
		retry apt-get get --no-upgrade ca-certificates curl gpg

	# Apt gets what gpg has read, and not the file: the two find different keys in one.
	retry curl curl -fsSL --max-time 60 --proto {{ protocols | sh }} -o key "$key_url"
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
	pin_by 'origin "{{ apt_host }}"'
	# This source alone, and first: an old key of it, or a broken source of others, is not in its way.
	retry apt-get apt_get -o "Dir::Etc::SourceList=$list" -o Dir::Etc::SourceParts=- -o APT::Get::List-Cleanup=0 update
{% if shared or not installer_is_default %}
	# shellcheck disable=SC2016 # for apt
	! apt-get indextargets --format '$(REPO_URI)' | grep -iE '://([^/]*@)?{{ apt_host | replace(".", "[.]") }}[:/]' | grep -qvF "$apt_url/" ||
		tell_apart
{% endif %}
{% if method == "apt-slim" %}
	# 519 MB of helper images are for other executors: an empty package stands in.
	mkdir -p slim/DEBIAN
	printf 'Package: gitlab-runner-helper-images\nVersion: %s-1\nArchitecture: all\nMaintainer: outrigger\n' "$version" >slim/DEBIAN/control
	dpkg-deb -b slim helper.deb
	dpkg -i helper.deb
{% endif %}
{% set back = "--allow-downgrades " if exact else "" %}
{% set packages = back ~ '--allow-change-held-packages "gitlab-runner=$version-1"' if method == "apt-slim" else back ~ '"gitlab-runner=$version-1" "gitlab-runner-helper-images=$version-1"' %}
	retry apt-get get --download-only {{ packages }}
{% if sha256 %}
	check_sha256 "/var/cache/apt/archives/gitlab-runner_$version-1_$(dpkg --print-architecture).deb"
{% endif %}
	lock
	retry apt-get get {{ packages }}
{% if method == "apt-slim" %}
	apt-mark hold gitlab-runner gitlab-runner-helper-images
{% endif %}
	at_least "$version" || fail "gitlab-runner $version does not run"
	echo whole >>"$mine"
}
