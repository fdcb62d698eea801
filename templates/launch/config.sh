hash() {
	sort | sha256sum | cut -d ' ' -f 1
}
{% if not replace_entry %}

# Shows a change, secrets masked.
edited() {
	sed -nE 's/^([^=]*([Tt]oken|[Kk]ey|[Ss]ecret|[Pp]assword|environ)[^=]*=).*/\1 (not shown)/; /^[ \t]*(\[|[A-Za-z_-]+ *=)/p' "$1" >&3
	fail "somebody changed our entry in $config: only a script made with --replace-entry replaces it"
}
{% endif %}

# loads FILE: can gitlab-runner? Only its words tell, and they go nowhere: tokens are among them.
loads() {
	gitlab-runner list --config "$1" 2>&1 | grep -q 'Listing configured runners'
}

write_config() {
	step=config
	# The package has written one.
	cmp -s "$config" old || plan_config
{% if can_lint %}
	gitlab-runner lint --config check/config.toml || fail "gitlab-runner does not accept the new config.toml: $(last_error)"
{% endif %}
	loads new || fail 'gitlab-runner does not accept the new config.toml'
	[ ! -e "$config" ] || cmp -s "$config" old || fail "$config has changed meanwhile: run this again"
	echo "$digest $now $(says new)" >"$state.digest.new"
{% if shared %}
	[ -e "$config" ] || chmod 600 new
	[ "$owner" = them ] || chown outrigger: new
{% else %}
	chmod 600 new
	chown outrigger: new
{% endif %}
{% if has_ca %}
	mv -f ca "$ca_file"
{% endif %}
{% if has_gitlab_ca %}
	mv -f gitlab-ca "$gitlab_ca_file"
{% endif %}
	mv -f new "$config"
	mv -f "$state.digest.new" "$state.digest"
	say 'config.toml is written'
}
