install_runner() {
	step=install
	! grep -qsx whole "$state.installed" || ! at_least "$version" || return 0
	release
	apt update
	apt --no-upgrade install ca-certificates curl
	retry curl -fsSL --proto {{ protocols | sh }} -o gitlab-runner "$binary_url"
	check_sha256 gitlab-runner
	# Ours from here on, but for these users.
	[ -e "$state.installed" ] || getent passwd gitlab-runner outrigger >"$state.installed" || :
	mkdir -p /usr/local/bin
	install gitlab-runner /usr/local/bin/gitlab-runner
	at_least "$version" || fail "$binary_url is not gitlab-runner $version for this machine"
	[ -e /etc/systemd/system/gitlab-runner.service ] || gitlab-runner install --working-directory "$etc"
	echo whole >>"$state.installed"
}
