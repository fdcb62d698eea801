# edit OLD NEW: NEW is OLD with the file "entry" in the place of ours, or at the end. It leaves what was
# found of ours: "count", its lines in "was", what they say in "said", tokens in "token.was" and
# "bearer.was"; and in "clash" an entry of our name that is not ours. Ours has our name, GitLab, and
# CA file or cluster: a mark would not last, the runner rewrites the file.
edit() {
	for file in said was clash token.was bearer.was; do : >$file; done
	NAME=$name URL=$url CA="\"$ca_file\"" HOST=$t_host LC_ALL=C awk '
	# Has KEY the value that we write, comments aside?
	function is(key, want) {
		want = ENVIRON[want]
		return index(value[key], want) == 1 &&
			substr(value[key], length(want) + 1) ~ /^[ \t\r]*(#|$)/
	}
	function place(    line) {
		while ((getline line < "entry") > 0) print line
	}
	# An entry was read to its end.
	function entry_done(    i, k) {
		i = 1
		if (is("runners.name", "NAME")) {
			if (is("runners.url", "URL") &&
					(is("runners.kubernetes.ca_file", "CA") || is("runners.kubernetes.host", "HOST"))) {
				# Comments at its end belong to what follows.
				for (i = n + 1; i > 1 && text[i - 1] ~ /^[ \t\r]*(#|$)/;) i--
				if (++count == 1) {
					place()
					for (k = 1; k < i; k++) print text[k] > "was"
					printf "%s", said > "said"
					printf "%s", token > "token.was"
					print value["runners.kubernetes.bearer_token"] > "bearer.was"
				}
			} else print value["runners.url"] > "clash"
		}
		for (; i <= n; i++) print text[i]
		n = inside = 0
		token = said = ""
		split("", value)
	}
	# Text in a multi-line string is no table.
	!multi && /^[ \t]*\[\[?[A-Za-z0-9_"\047. -]+\]\]?[ \t\r]*(#|$)/ {
		table = $0
		sub(/#.*/, "", table)
		gsub(/[] \t\r[]/, "", table)
		if (table !~ /^runners[.]/) entry_done()
		if (table == "runners") inside = 1
		header = 1
	}
	# What an entry says: not what the runner adds when it rewrites the file.
	inside && !header && !/^[ \t\r]*(#|$)/ {
		key = val = ""
		line = $0
		gsub(/^[ \t]+|[ \t\r]+$/, "", line)
		if (!multi && match(line, /^[A-Za-z0-9_-]+[ \t]*=[ \t]*/)) {
			key = substr(line, 1, RLENGTH)
			gsub(/[ \t=]/, "", key)
			value[table "." key] = val = substr(line, RLENGTH + 1)
		}
		if (table == "runners" && key ~ /^(id|token|token_obtained_at|token_expires_at)$/) token = token $0 "\n"
		else if (val !~ /^(""|0|false|\[\])$/) said = said line "\n"
	}
	{
		line = $0
		if (!multi) mark = match($0, /^[^#"\047]*("""|\047\047\047)/) ? substr($0, RLENGTH - 2, 3) : "\n"
		if (gsub(mark, "", line) % 2) multi = !multi
		if (inside) text[++n] = $0; else print
		header = 0
	}
	END {
		entry_done()
		if (!count) { print ""; place() }
		print count + 0 > "count"
	}' "$1" >"$2"
}

says() {
	edit "$1" rest
	hash <said
}

# Is there something to do? Then the new file lies ready.
plan_config() {
	step=config
	if [ -e "$config" ]; then
		cp -p "$config" old
		cp -p old new # for its owner and mode
	else
		printf 'concurrent = {{ job_limit }}\ncheck_interval = 3\n' >old
	fi
	: >entry
	edit old rest
	count=$(cat count)
	[ ! -s clash ] || fail "$config has an entry $name for $(cat clash) that is not ours"
	# The state holds the digest of what was applied, and hashes of its tokens and of the entry.
{% if replace_entry %}
	applied='' tokens=''
	[ ! -e "$state.digest" ] || read -r applied tokens _ <"$state.digest"
{% else %}
	applied='' tokens='' said=''
	[ ! -e "$state.digest" ] || read -r applied tokens said <"$state.digest"
{% endif %}
{% include "tokens.sh" %}
	todo=no
	if [ "$count $digest $now" = "1 $applied $tokens" ]; then
		# The runner may have replaced its token since: this leaves it alone.
		say 'config.toml needs no change'
		return
	fi
	todo=yes
{% if not replace_entry %}
	[ "$count" -eq 0 ] || [ "$(hash <said)" = "$said" ] || edited was
{% endif %}
	entry >text
	mv text entry
	edit old new
}
