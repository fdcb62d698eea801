# Follows a delivery again after the line was cut.
{% include "follow.sh" %}

resume() {
	[ "${1:-}" = {{ nonce | sh }} ] || exit 1
	exec </dev/null
	nonce=$1 base={{ base | sh }} state={{ state | sh }}
	dir=$base.$nonce
	[ ! -d "$dir" ] || put started
	follow {{ from | sh }}
}

resume {{ nonce | sh }}
