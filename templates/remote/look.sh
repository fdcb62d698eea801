# Looks at this machine and changes nothing.
nonce={{ nonce | sh }}

put() {
	printf '\noutrigger %s %s %s\n' "$nonce" "$1" "$2"
}

# As root.
look() {
	cat <<'END'
nonce={{ nonce | sh }} base={{ base | sh }} state={{ state | sh }}
put() {
	printf '\noutrigger %s %s %s\n' "$nonce" "$1" "$2"
}
first() {
	[ ! -r "$1" ] || head -n 1 "$1" | head -c 4096 | tr -d '\r'
}
put system "$(. /etc/os-release 2>/dev/null && echo "$ID $VERSION_ID")"
put codename "$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}")"
put systemd "$([ ! -d /run/systemd/system ] || echo yes)"
put apt "$(command -v apt-get)"
for program in flock base64 sha256sum setsid; do
	command -v "$program" >/dev/null || put lacks "$program"
done
put free "$(df -Pk / | awk 'NR == 2 { print $4 }')"
put memory "$(df -Pk /run | awk 'NR == 2 { print $4 }')"
put status "$(first "$state.json")"
put digest "$(first "$state.digest" | cut -d ' ' -f 1)"
put version "$(gitlab-runner --version 2>/dev/null | sed -n 's/^Version: *//p')"
if grep -qsx whole "$state.installed"; then put installed yes; fi
put service "$(systemctl is-active gitlab-runner 2>/dev/null)"
{% include "state.sh" %}
if grep -qsx whole "$state.installed"; then hardened; fi
{% if url %}
entry
{% endif %}
{% include "id.sh" %}
if [ -e "$base.lock" ] && read -r delivery pid <"$base.lock" && [ -d "/proc/${pid:-none}" ]; then put running "$delivery"; fi
put end
END
}

put user "$(id -un)"
put address "$(echo "${SSH_CONNECTION-}" | cut -d ' ' -f 3)"
if [ "$(id -u)" -eq 0 ]; then
	put access root
	look | sh -s
elif ! command -v sudo >/dev/null; then
	put access none
elif sudo -n true 2>/dev/null; then
	put access sudo
	look | sudo -n sh -s
else
	put access password
fi
