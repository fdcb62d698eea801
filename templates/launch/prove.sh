# ask API REVIEW: as the runner will reach the cluster; leaves "answer".
ask() {
	failed=0
	code=$(curl -gsS{% if not has_proxy %} --noproxy '*'{% endif %} --max-time 20 -o answer -w '%{http_code}' -H @header \
		-H 'Content-Type: application/json'{% if has_ca %} --cacert ca{% endif %} --data-raw "$2" "$host/apis/$1") || failed=$?
	case $failed in
		0) [ "$code" != 401 ] || fail "$host refuses the token: revoked, expired, or of another cluster" ;;
		6 | 7 | 28) fail "this machine does not reach $host (a firewall, or authorized networks?): $(last_error)" ;;
		*) fail "$host: $(last_error)" ;;
	esac
}

# The cluster, with the CA and the token that the runner will have.
prove_cluster() {
	step=prove-cluster
	printf 'Authorization: Bearer %s\n' "$bearer" >header
{% if has_ca %}
	printf '%s' "$ca" >ca
{% endif %}
	ask authentication.k8s.io/v1/selfsubjectreviews '{}'
	grep -q "\"username\": *\"$account\"" answer || fail "the token is not that of $account"
	ask authorization.k8s.io/v1/selfsubjectaccessreviews {{ review | sh }}
	grep -q '"allowed": *true' answer || fail "$account may not create pods"
	say "the cluster knows $account"
}

# GitLab, as the runner asks it. That ends with 0 although it failed: only its words tell.
prove_gitlab() {
	step=prove-gitlab
	mkdir check
{% if has_gitlab_ca %}
	printf '%s' "$gitlab_ca" >gitlab-ca
	(gitlab_ca_file=$work/gitlab-ca && entry) >check/config.toml
{% else %}
	entry >check/config.toml
{% endif %}
	id=.runner_system_id
	[ ! -e "$etc/$id" ] || fetch "$etc/$id" check/$id
	retry verify verify
	[ -e "$etc/$id" ] || [ ! -e check/$id ] || put check/$id "$etc/$id" 600
	grep -qE ' is (valid|alive)' words || fail "GitLab refuses the runner's token: $(grep Verifying words)"
	say 'GitLab knows the runner'
}

verify() {
	# Its lines have colours.
	gitlab-runner verify --config check/config.toml 2>&1 | awk '{gsub(/\033\[[0-9;]*m/,"")}1' >words
	cat words
	grep -qE ' is (not )?(valid|alive)|removed|[Ff]orbidden' words
}
