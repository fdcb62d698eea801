# edit OLD NEW: NEW is OLD with the file "entry" in the place of ours, or at the end. It leaves what was
# found of ours: "count", its lines in "was", what they say in "said", tokens in "token.was" and
# "bearer.was"; and in "clash" an entry of our name that is not ours.
edit() {
	for file in said was clash token.was bearer.was; do : >$file; done
	NAME=$name URL=$url CA="\"$ca_file\"" HOST=$t_host LC_ALL=C awk '
{% include "entries.awk" %}
	function place(    line) {
		while ((getline line < "entry") > 0) print line
	}
	# An entry was read to its end.
	function entry_done(    i, k) {
		i = 1
		if (ours()) {
			i = own() + 1
			if (++count == 1) {
				place()
				for (k = 1; k < i; k++) print text[k] > "was"
				printf "%s", said > "said"
				printf "%s", token > "token.was"
				print value["runners.kubernetes.bearer_token"] > "bearer.was"
			}
		} else if (is("runners.name", "NAME")) print value["runners.url"] > "clash"
		for (; i <= n; i++) print text[i]
	}
	END {
		next_part()
		if (!count) { print ""; place() }
		print count + 0 > "count"
	}' "$1" >"$2"
}

says() {
	edit "$1" rest
	hash <said
}

{% include "global.sh" %}

# Is there something to do? Then the new file lies ready.
plan_config() {
	step=config
	if [ -e "$config" ]; then
		fetch "$config" old
	else
		printf '%s\n' {{ global | sh }} >old
	fi
	: >entry
	edit old rest
	count=$(cat count)
	[ ! -s clash ] || fail "$config has an entry $name for $(cat clash) that is not ours"
{% include "tokens.sh" %}
	todo=no
	if [ "$count $digest $now" = "1 $applied $tokens" ]; then
		# The runner may have replaced its token since: this leaves it alone.
		say 'config.toml needs no change'
		return
	fi
	todo=yes
{% if not replace_entry %}
	is=$(hash <said)
	mv was shown
{% endif %}
	entry >text
	mv text entry
	edit old new
{% if not replace_entry %}
	[ "$count" -eq 0 ] || [ "$is" = "$said" ] || [ "$is" = "$(says new)" ] || edited shown
{% endif %}
	allowed=$(sed -nE '/^ *\[/q; s/^concurrent *= *([0-9]+).*/\1/p' old)
	[ "$owner" != them ] || [ "${allowed:-1}" -ge {{ job_limit }} ] ||
		say "concurrent = ${allowed:-1} in $config: no more jobs at once, whatever our limit of {{ job_limit }}"
{% if global_asked %}
	[ "$owner" != them ] || printf '%s\n' {{ global_asked | sh }} | while read -r line; do
		sed '/^ *\[/q' old | grep -qxF "$line" || say "$config is of another gitlab-runner, and stays without $line"
	done
{% endif %}
	[ "$owner" = them ] || { global new >text && mv text new; }
}
