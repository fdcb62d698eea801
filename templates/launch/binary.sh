install_runner() {
	step=install
{% if exact %}
	! grep -qsx whole "$mine" || [ "$(installed)" != "$version" ] || return 0
{% else %}
	! grep -qsx whole "$mine" || ! at_least "$version" || return 0
{% endif %}
	release
	{ type curl && [ -e /etc/ssl/certs/ca-certificates.crt ]; } ||
		retry apt-get get --no-upgrade ca-certificates curl
	retry curl curl -fsSL --proto {{ protocols | sh }} -o gitlab-runner "$binary_url"
	check_sha256 gitlab-runner
	# Ours from now on, but not these users.
	[ -e "$mine" ] || getent passwd gitlab-runner outrigger >"$mine" || :
	mkdir -p /usr/local/bin
	install gitlab-runner /usr/local/bin/gitlab-runner
	at_least "$version" || fail "$binary_url is not gitlab-runner $version for this machine"
	echo whole >>"$mine"
}
