	etc=$(readlink -f "${config%/*}")
	config=$etc/${config##*/}
{% if has_ca %}
	ca_file=$etc/outrigger-$deployment-ca.crt
{% elif shared %}
	ca_file=none
{% endif %}
{% if has_gitlab_ca %}
	gitlab_ca_file=$etc/outrigger-$deployment-gitlab-ca.crt
{% endif %}
	is_file "$config"
	is_file "$etc/.runner_system_id"
	# After a power cut. Where nobody but root may write.
	rm -rf /etc/.outrigger.??????
	work=$(mktemp -d /etc/.outrigger.XXXXXX)
	cd "$work"
