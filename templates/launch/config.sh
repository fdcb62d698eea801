hash() {
	sort | sha256sum | cut -d ' ' -f 1
}
{% if not replace_entry %}

# Shows the names of keys: any value may be a secret, and so may a line of a long string.
edited() {
	awk '{
		if (!long && match($0, /^[ \t]*(\[\[?[A-Za-z][A-Za-z0-9_. -]*\]\]?|[A-Za-z][A-Za-z0-9_.-]*[ \t]*=[^=])/)) {
			name = substr($0, 1, RLENGTH)
			print name ~ /=/ ? substr(name, 1, RLENGTH - 1) " (not shown)" : name
		}
		line = $0
		if (!long) mark = match(line, /"""|\047\047\047/) ? substr(line, RSTART, 3) : "\n"
		if (gsub(mark, "", line) % 2) long = !long
	}' "$1" >&3
	fail "somebody changed our entry in $config: only a script made with --replace-entry replaces it"
}
{% endif %}

# loads FILE: can gitlab-runner? Only its words tell, and they go nowhere: tokens are among them.
loads() {
	gitlab-runner list --config "$1" 2>&1 | grep -q 'Listing configured runners'
}

write_config() {
	step=config
	# The package may have written one.
	unchanged || plan_config
{% if can_lint %}
	gitlab-runner lint --config check/config.toml || fail "gitlab-runner does not accept the new config.toml: $(last_error)"
{% endif %}
	loads new || fail 'gitlab-runner does not accept the new config.toml'
	unchanged || fail "$config has changed meanwhile: run this again"
	# Hashes of what may contain passwords: for root only.
	(umask 077 && echo "$digest $now $(says new)" >"$state.digest.new")
{% if has_ca %}
	put ca "$ca_file" 644
{% endif %}
{% if has_gitlab_ca %}
	put gitlab-ca "$gitlab_ca_file" 644
{% endif %}
	put new "$config" 600
	mv -f "$state.digest.new" "$state.digest"
	say 'config.toml is written'
}
