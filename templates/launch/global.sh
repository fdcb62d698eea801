# global FILE: what is asked of the runner as a whole, and FILE without it.
global() {
	printf '%s\n' {{ global | sh }}
	awk '{% if not shared %}/^ *\[\[runners\]\]/ { exit } {% endif %}/^ *\[/ { rest = 1 } rest || tolower($0) !~ /^[ \t"]*({{ global_keys }})[ \t"]*=/' "$1"
}
