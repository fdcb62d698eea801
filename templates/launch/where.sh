	config=$(systemctl show -p ExecStart gitlab-runner 2>/dev/null |
		sed -nE 's/.* (--config|-c)[ =]([^ ;]+).*/\2/p')
	config=${config:-/etc/gitlab-runner/config.toml}
	case $config in [!/]* | *[!A-Za-z0-9/._-]*) fail "cannot work with a path such as $config" ;; esac
{% include "paths.sh" %}
