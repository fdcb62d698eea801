#!/bin/sh
# Makes this machine a GitLab Runner whose jobs run as pods in a Kubernetes cluster.
# By outrigger {{ outrigger_version | comment }}; runs as root, as often as you like.
# outrigger-launch-script deployment={{ deployment | comment }} digest={{ digest }}
#   cluster  {{ cluster | comment }} at {{ kubernetes_host | comment }}
#   gitlab   {{ gitlab_url | comment }}
#   runner   gitlab-runner {{ runner_version | comment }} by {{ method }}, tags {{ tags | comment }}
#   made for {{ target | comment }}, which runs it {{ target_runs | comment }}
#   read by  {{ target_readers | comment }}
{% if not installer_is_default %}
#   NOT THE DEFAULT INSTALLER: {{ source | comment }}
{% if method != "binary" %}
#   key {{ key_fingerprint | comment }} from {{ key_url | comment }}
{% endif %}
{% endif %}
{% if has_secrets %}
# HOLDS TWO SECRETS, in settings(){% if added %}, AND {{ added }}{% endif %}. Delete your copy once the runner is online.
{% elif added %}
# HOLDS {{ added }}, secret or not, but no token: it keeps those that are on the machine, or takes them
# from a file: sh THIS SECRETS
{% else %}
# Holds no secret: it keeps the tokens that are on the machine, or takes them from a file: sh THIS SECRETS
{% endif %}
{% if shared %}
# Where gitlab-runner is there already, only ONE entry of its config.toml and our CA files change.
{% else %}
# For a machine without another GitLab Runner; for others there is --target ssh.
{% endif %}
# Outcome in /var/lib/outrigger, log in /var/log.
{% if brief %}
# Its comments are left out, to fit here: --target ssh has them.
{% endif %}

# Values from outside, a quoted word each.
settings() {
	deployment={{ deployment | sh }}
	digest={{ digest | sh }}
	# Seconds, between attempts and for apt's lock.
	pauses='5 10 20 40' lock_wait=120
	version={{ runner_version | sh }}
{% if method == "binary" %}
	binary_url={{ binary_url | sh }}
{% else %}
	apt_url={{ apt_url | sh }}
	key_url={{ key_url | sh }}
	fingerprint={{ key_fingerprint | sh }}
{% endif %}
{% if sha256 %}
	sha256={{ sha256 | sh }}
{% endif %}
	host={{ kubernetes_host | sh }}
	account={{ account | sh }}
{% if shared %}
	name={{ runner_name | toml | sh }} # this and the next two as TOML
	url={{ gitlab_url | toml | sh }}
	t_host={{ kubernetes_host | toml | sh }}
{% endif %}
{% if has_ca %}
	ca={{ ca_pem | sh }}
{% endif %}
{% if has_gitlab_ca %}
	gitlab_ca={{ gitlab_ca_pem | sh }}
{% endif %}
{% if has_proxy %}
	proxy={{ proxy | sh }}
{% endif %}
	token={{ runner_token | sh }}
{% if runner_expires %}
	expires={{ runner_expires | sh }}
{% elif not has_secrets %}
	expires=''
{% endif %}
	bearer={{ bearer_token | sh }}
}

# Our entry in config.toml.
entry() {
	cat <<'END'
{{ entry.runner }}END
{% if has_gitlab_ca %}
	printf '  tls-ca-file = "%s"\n' "$gitlab_ca_file"
{% endif %}
	cat token
	cat <<'END'
{{ entry.kubernetes }}END
{% if has_ca %}
	printf '    ca_file = "%s"\n    bearer_token = "%s"\n' "$ca_file" "$bearer"
{% else %}
	printf '    bearer_token = "%s"\n' "$bearer"
{% endif %}
{% if entry.tables %}
	cat <<'END'
{{ entry.tables }}END
{% endif %}
}

{% include "common.sh" %}

{% include "etc.sh" %}

{% if has_proxy %}
{% include "proxy.sh" %}

{% endif %}
{% if shared %}
{% include "find_shared.sh" %}

{% else %}
{% include "find_own.sh" %}

{% endif %}
{% include "release.sh" %}

{% if method == "binary" %}
{% include "binary.sh" %}

{% else %}
{% include "apt.sh" %}

{% endif %}
{% if shared %}
{% include "config_shared.sh" %}

{% else %}
{% include "config_own.sh" %}

{% endif %}
{% include "config.sh" %}

{% include "prove.sh" %}

{% include "service.sh" %}

{% if lock_metadata %}
{% include "metadata.sh" %}

{% endif %}
{% if not has_secrets %}
{% include "secrets.sh" %}

{% elif target_copies %}
{% include "scrub.sh" %}

{% endif %}
main() {
	set -eu
	exec </dev/null
	settings
	begin
{% if has_proxy %}
	use_proxy
{% endif %}
{% if not has_secrets %}
	[ $# -eq 0 ] || read_secrets "$1"
{% endif %}
	find_runner
	plan_config
{% if shared %}
	[ "$owner" = them ] || install_runner
{% else %}
	install_runner
{% endif %}
	if [ "$todo" = yes ]; then
		prove_cluster
		prove_gitlab
	fi
{% if shared %}
	[ "$owner" = them ] || harden
{% else %}
	harden
{% endif %}
	if [ "$todo" = yes ]; then
		write_config
	else
		step=config
		loads old || fail "gitlab-runner cannot load $config"
	fi
	start_service
{% if lock_metadata %}
	lock_metadata
{% endif %}
{% if has_secrets and target_copies %}
	scrub
{% endif %}
	step=end
	say 'the service is running'
}

# The last line: a script cut short does nothing.
main "$@"
