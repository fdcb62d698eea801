	# Has KEY the value that we write, comments aside?
	function is(key, want) {
		want = ENVIRON[want]
		return index(value[key], want) == 1 &&
			substr(value[key], length(want) + 1) ~ /^[ \t\r]*(#|$)/
	}
	# An entry is ours by name, GitLab, and CA file or cluster: no mark lasts, the runner rewrites the file.
	function ours() {
		return is("runners.name", "NAME") && is("runners.url", "URL") &&
			(is("runners.kubernetes.ca_file", "CA") || is("runners.kubernetes.host", "HOST"))
	}
	# How many lines it has: comments at its end belong to what follows.
	function own(    i) {
		for (i = n; i && text[i] ~ /^[ \t\r]*(#|$)/;) i--
		return i
	}
	function next_part() {
		entry_done()
		n = inside = 0
{% if not undo %}
		token = said = ""
{% endif %}
		split("", value)
	}
	# Text in a multi-line string is no table.
	!multi && /^[ \t]*\[\[?[A-Za-z0-9_"\047. -]+\]\]?[ \t\r]*(#|$)/ {
		table = $0
		sub(/#.*/, "", table)
		gsub(/[] \t\r[]/, "", table)
		if (table !~ /^runners[.]/) next_part()
{% if undo %}
		if (table == "runners") {
			inside = 1
			top = NR
			gap = NR > 1 && before == ""
		}
{% else %}
		if (table == "runners") inside = 1
{% endif %}
		header = 1
	}
{% if not undo %}
	# What an entry says: not what the runner adds when it rewrites the file.
{% endif %}
	inside && !header && !/^[ \t\r]*(#|$)/ {
		key = val = ""
		line = $0
		gsub(/^[ \t]+|[ \t\r]+$/, "", line)
		if (!multi && match(line, /^[A-Za-z0-9_-]+[ \t]*=[ \t]*/)) {
			key = substr(line, 1, RLENGTH)
			gsub(/[ \t=]/, "", key)
			value[table "." key] = val = substr(line, RLENGTH + 1)
		}
{% if not undo %}
		if (table == "runners" && key ~ /^(id|token|token_obtained_at|token_expires_at)$/) token = token $0 "\n"
		else if (val !~ /^(""|0|false|\[\])$/) said = said line "\n"
{% endif %}
	}
	{
		line = $0
		if (!multi) mark = match($0, /^[^#"\047]*("""|\047\047\047)/) ? substr($0, RLENGTH - 2, 3) : "\n"
		if (gsub(mark, "", line) % 2) multi = !multi
{% if undo %}
		if (inside) text[++n] = $0
		before = $0
{% elif looks %}
		if (inside) text[++n] = $0
{% else %}
		if (inside) text[++n] = $0; else print
{% endif %}
		header = 0
	}
