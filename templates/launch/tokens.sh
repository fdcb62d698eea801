{% if has_secrets %}
	now=$(printf '%s %s' "$token" "$bearer" | hash)
	printf '  token = "%s"\n' "$token" >token
{% if runner_expires %}
	printf '  token_obtained_at = %s\n  token_expires_at = %s\n' "$(date -u +%FT%TZ)" "$expires" >>token
{% endif %}
{% elif shared %}
	if [ -n "$token" ]; then
		now=$(printf '%s %s' "$token" "$bearer" | hash)
		printf '  token = "%s"\n' "$token" >token
		[ -z "$expires" ] ||
			printf '  token_obtained_at = %s\n  token_expires_at = %s\n' "$(date -u +%FT%TZ)" "$expires" >>token
	else
		now=$tokens
		mv token.was token
		bearer=$(tr -d '"' <bearer.was)
		{ [ -s token ] && [ -n "$bearer" ]; } || fail "$config has no entry of $deployment with its tokens: give them"
	fi
{% else %}
	if [ -n "$token" ]; then
		now=$(printf '%s %s' "$token" "$bearer" | hash)
		printf '  token = "%s"\n' "$token" >token
		[ -z "$expires" ] ||
			printf '  token_obtained_at = %s\n  token_expires_at = %s\n' "$(date -u +%FT%TZ)" "$expires" >>token
	else
		now=$tokens
		grep -E '^ *(id|token|token_obtained_at|token_expires_at) = ' old >token ||
			fail "$config has no entry of $deployment with its tokens: give them"
		bearer=$(sed -nE 's/^ *bearer_token = "(.*)"$/\1/p' old)
	fi
{% endif %}
