install_runner() {
	step=install
	! grep -qsx whole "$mine" || ! at_least "$version" || return 0
	release
	apt=/etc/apt
	list=$apt/sources.list.d/outrigger-gitlab-runner.list
{% if shared %}
	other=$(grep -lsF "$apt_url" "$apt"/sources.list.d/* | grep -vxF "$list") || :
	[ -z "$other" ] || fail "$other has this apt source: upgrade from there"
{% endif %}
	{ type curl gpg && [ -e /etc/ssl/certs/ca-certificates.crt ]; } ||
		retry apt-get get --no-upgrade ca-certificates curl gpg

	# The key is trusted for its fingerprint, and only alone in its file.
	retry curl curl -fsSL --max-time 60 --proto {{ protocols | sh }} -o key "$key_url"
	gpg --homedir . --batch --show-keys --with-colons key >keys || fail "$key_url holds no OpenPGP key"
	found=$(awk -F: '$1 == "pub" { p = 1 } p && $1 == "fpr" { print $10; p = 0 }' keys)
	[ "$found" = "$fingerprint" ] || fail "the key of $key_url is $found, not $fingerprint"

	# Only these may come from this source.
	key=$apt/keyrings/outrigger-gitlab-runner.asc
	pin=$apt/preferences.d/outrigger-gitlab-runner.pref
	mkdir -p "$apt/keyrings"
	# Ours from now on, but not these users.
	[ -e "$mine" ] || getent passwd gitlab-runner outrigger >"$mine" || :
	cat key >"$key"
	printf 'deb [signed-by=%s] %s/%s %s main\n' "$key" "$apt_url" "${os%/*}" "${os#*/}" >"$list"
	cat >"$pin" <<END
Package: *
Pin: origin "{{ apt_host }}"
Pin-Priority: -1

Package: gitlab-runner{% if method == "apt" %} gitlab-runner-helper-images{% endif %}

Pin: origin "{{ apt_host }}"
Pin-Priority: 990
END
	# This source alone, and first: an old key of it, or a broken source of others, is not in its way.
	retry apt-get apt_get -o "Dir::Etc::SourceList=$list" -o Dir::Etc::SourceParts=- -o APT::Get::List-Cleanup=0 update
{% if method == "apt-slim" %}
	# 519 MB of helper images are for other executors: an empty package stands in.
	mkdir -p slim/DEBIAN
	printf 'Package: gitlab-runner-helper-images\nVersion: %s-1\nArchitecture: all\nMaintainer: outrigger\n' "$version" >slim/DEBIAN/control
	dpkg-deb -b slim helper.deb
	dpkg -i helper.deb
{% endif %}
{% set packages = '"gitlab-runner=$version-1"' if method == "apt-slim" else '"gitlab-runner=$version-1" "gitlab-runner-helper-images=$version-1"' %}
{% if sha256 %}
	retry apt-get get --download-only {{ packages }}
	check_sha256 "/var/cache/apt/archives/gitlab-runner_$version-1_$(dpkg --print-architecture).deb"
{% endif %}
	retry apt-get get {% if method == "apt-slim" %}--allow-change-held-packages {% endif %}{{ packages }}

{% if method == "apt-slim" %}
	apt-mark hold gitlab-runner gitlab-runner-helper-images
{% endif %}
	at_least "$version" || fail "gitlab-runner $version does not run"
	echo whole >>"$mine"
}
