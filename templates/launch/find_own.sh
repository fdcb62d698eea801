# A GitLab Runner that somebody else installed is not touched.
find_runner() {
	step=look
	config=/etc/gitlab-runner/config.toml
{% include "paths.sh" %}
	if [ ! -e "$mine" ]; then
		have=$(installed)
		[ -z "$have$(ls "$config" 2>/dev/null)" ] ||
			fail "a GitLab Runner is here ($have, $config): use the script of --target ssh"
	fi
	mkdir -p "$etc"
	chmod 700 "$etc"
}
