# What our entry says: without tokens, and without what the runner adds when it rewrites the file.
says() {
	sed -nE '/^ *\[\[runners\]\]/,$ { s/^[ \t]+//; p }' "$1" |
		grep -vE '^((id|token|token_obtained_at|token_expires_at) =|#|\[|$)|= (""|0|false|\[\])$' | hash
}

{% include "global.sh" %}

# Is there something to do? Then the new file lies ready: what stands above [[runners]], and our entry.
plan_config() {
	step=config
	if [ -e "$config" ]; then
		fetch "$config" old
	else
		: >old
	fi
{% include "tokens.sh" %}
	todo=no
	entries=$(grep -c '^ *\[\[runners\]\]' old) || :
	if [ "$entries" -gt 0 ] && [ "$digest $now" = "$applied $tokens" ]; then
		# The runner may have replaced its token since: this leaves it alone.
		say 'config.toml needs no change'
		return
	fi
	todo=yes
	[ "$entries" -le 1 ] || fail "$config has entries of others: use the script of --target ssh"
	{
		global old
		[ "$entries" -gt 0 ] || echo
		entry
	} >new
{% if not replace_entry %}
	is=$(says old)
	[ "$entries" -eq 0 ] || [ "$is" = "$said" ] || [ "$is" = "$(says new)" ] || edited old
{% endif %}
}
