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
	given=$token$bearer
	if [ -n "$token" ]; then
		printf '  token = "%s"\n' "$token" >token
		[ -z "$expires" ] ||
			printf '  token_obtained_at = %s\n  token_expires_at = %s\n' "$(date -u +%FT%TZ)" "$expires" >>token
	else
{% if shared %}
		mv token.was token
{% else %}
		grep -E '^ *(id|token|token_obtained_at|token_expires_at) = ' old >token || :
{% endif %}
		token=$(sed -nE 's/^[[:space:]]*token *= *"([^"]*)".*/\1/p' token)
	fi
{% if shared %}
	[ -n "$bearer" ] || bearer=$(tr -d '"' <bearer.was)
{% else %}
	[ -n "$bearer" ] || bearer=$(sed -nE 's/^ *bearer_token = "(.*)"$/\1/p' old)
{% endif %}
	{ [ -s token ] && [ -n "$bearer" ]; } || fail "$config has no entry of $deployment with the other token: give both"
	# What the runner made of its token is not a change.
	now=$tokens
	[ -z "$given" ] || now=$(printf '%s %s' "$token" "$bearer" | hash)
{% endif %}
