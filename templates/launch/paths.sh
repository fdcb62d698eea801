	etc=${config%/*}
{% if has_ca %}
	ca_file=$etc/outrigger-$deployment-ca.crt
{% elif shared %}
	ca_file=none
{% endif %}
{% if has_gitlab_ca %}
	gitlab_ca_file=$etc/outrigger-$deployment-gitlab-ca.crt
{% endif %}
	[ ! -L "$config" ] || fail "$config is a symbolic link"
