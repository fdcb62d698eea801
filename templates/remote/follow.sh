# Shows what the script of this delivery says, from a byte on, until it has ended; then how.
follow() {
	from=$1 tries=0
	until [ -e "$dir/out" ] || [ -e "$dir/exit" ]; do
		tries=$((tries + 1))
		if [ ! -d "$dir" ] || [ "$tries" -gt 100 ]; then
			absent
			return
		fi
		sleep 0.1
	done
	while :; do
		ended=no pid=''
		# Another follower has seen the end, or another delivery has cleaned up.
		if [ ! -d "$dir" ]; then
			absent
			return
		fi
		# Before the output is read: what comes later is read the next time.
		if [ -e "$dir/exit" ]; then
			ended=yes
		elif [ -e "$base.lock" ] && read -r _ pid <"$base.lock" && [ -n "$pid" ] && [ ! -d "/proc/$pid" ] && [ ! -e "$dir/exit" ]; then
			# Killed, without a chance to say so.
			rm -f "$dir/script" "$dir/secrets"
			ended=lost
		fi
		size=0
		[ ! -e "$dir/out" ] || size=$(wc -c <"$dir/out")
		if [ "$size" -gt "$from" ]; then
			tail -c "+$((from + 1))" "$dir/out" | head -c "$((size - from))"
			from=$size
		fi
		[ "$ended" = no ] || break
		sleep 0.3
	done
	told
	if [ "$ended" = lost ]; then
		put lost
	else
		put exit "$(cat "$dir/exit")"
	fi
	rm -rf "$dir"
}

# There is no such delivery, or no longer. What one left that never started goes.
absent() {
	told
	flock -n "$base.lock" rm -rf "$dir" 2>/dev/null
	put absent
}

# What the script left.
told() {
	put status "$(first "$state.json")"
{% include "id.sh" %}
}

put() {
	printf '\noutrigger %s %s %s\n' "$nonce" "$1" "${2:-}"
}

first() {
	[ ! -r "$1" ] || head -n 1 "$1" | head -c 4096 | tr -d '\r'
}
