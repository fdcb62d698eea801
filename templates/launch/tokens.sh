	# What was applied: the digest, and hashes of the tokens and of the entry.
{% if replace_entry %}
	applied='' tokens=''
	[ ! -e "$state.digest" ] || read -r applied tokens _ <"$state.digest"
{% else %}
	applied='' tokens='' said=''
	[ ! -e "$state.digest" ] || read -r applied tokens said <"$state.digest"
{% endif %}
{% if has_secrets %}
	now=$(printf '%s %s' "$token" "$bearer" | hash)
	printf '  token = "%s"\n' "$token" >token
{% if runner_expires %}
	printf '  token_obtained_at = %s\n  token_expires_at = %s\n' "$(date -u +%FT%TZ)" "$expires" >>token
{% endif %}
{% else %}
	if [ -n "$token" ]; then
		now=$(printf '%s %s' "$token" "$bearer" | hash)
		printf '  token = "%s"\n' "$token" >token
		[ -z "$expires" ] ||
			printf '  token_obtained_at = %s\n  token_expires_at = %s\n' "$(date -u +%FT%TZ)" "$expires" >>token
	else
		now=$tokens
{% if shared %}
		mv token.was token
		bearer=$(tr -d '"' <bearer.was)
{% else %}
		grep -E '^ *(id|token|token_obtained_at|token_expires_at) = ' old >token || :
		bearer=$(sed -nE 's/^ *bearer_token = "(.*)"$/\1/p' old)
{% endif %}
		{ [ -s token ] && [ -n "$bearer" ]; } || fail "$config has no entry of $deployment with its tokens: give them"
	fi
{% endif %}
