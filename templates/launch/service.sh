# The service runs as a user that no job has, and may write nothing but its directory.
harden() {
	step=harden
	id outrigger || useradd --system --shell /usr/sbin/nologin outrigger
	unit=/etc/systemd/system/gitlab-runner.service.d
	mkdir -p "$unit"
	cat >unit <<END
[Service]
User=outrigger
ExecStart=
ExecStart=$(command -v gitlab-runner) run --config $config --working-directory $etc
RestartSec=5
KillSignal=SIGQUIT
TimeoutStopSec=7200
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ReadWritePaths=$etc
ProtectHome=yes
PrivateTmp=yes
IPAddressDeny=169.254.169.254
END
	chown outrigger: "$etc" "$etc/$id" || :
	cmp -s unit "$unit/outrigger.conf" && return
	mv -f unit "$unit/outrigger.conf"
	systemctl daemon-reload
	# Without an entry there is no job that this could end.
	[ -e "$config" ] || systemctl restart gitlab-runner
}
{% if shared %}

# A running service sees a new config.toml by itself; a restart would end its jobs.
start_service() {
	step=service
	if [ "$owner" != them ]; then
		systemctl enable --now gitlab-runner
	elif ! systemctl is-active --quiet gitlab-runner; then
		say 'gitlab-runner is not running, and not ours to start'
	fi
}
{% endif %}
