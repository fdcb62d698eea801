# The tokens, or one of them, from a file that was copied here; it is of no use afterwards.
read_secrets() {
	[ -f "$1" ] || fail "there is no file $1 with the tokens"
	read -r head <"$1"
	[ "$head" = "# outrigger-launch-secrets deployment=$deployment" ] || fail "$1 holds no tokens of $deployment"
	token=$(sed -n 's/^runner_token=//p' "$1")
	bearer=$(sed -n 's/^bearer_token=//p' "$1")
	expires=$(sed -n 's/^runner_expires=//p' "$1")
	[ -n "$token$bearer" ] || fail "$1 holds no token"
}
