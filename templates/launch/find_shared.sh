# Whose gitlab-runner is here: them (only our entry may change), us, or nobody's yet?
find_runner() {
	step=look
{% include "where.sh" %}
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
{% if has_proxy %}
		say 'its service keeps its environment, and needs the proxy there: systemctl edit gitlab-runner'
{% endif %}
	fi
	[ -d "$etc" ] || mkdir -m 700 "$etc"
}
