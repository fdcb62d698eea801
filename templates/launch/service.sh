# The service runs as a user that no job has, and may write nothing but its directory.
harden() {
	step=harden
	id outrigger || useradd --system --shell /usr/sbin/nologin outrigger
	service=/etc/systemd/system/gitlab-runner.service
	[ -e "$service" ] || { lock && gitlab-runner install --user outrigger --working-directory "$etc"; }
	mkdir -p "$service.d"
	cat >unit <<END
[Service]
User=outrigger
RestartSec=5
KillSignal=SIGQUIT
TimeoutStopSec=7200
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ReadWritePaths=$etc
ProtectHome=yes
PrivateTmp=yes
{% if not uses_identity %}
IPAddressDeny=169.254.169.254 fd00:ec2::254
{% endif %}
{% if has_proxy %}
EnvironmentFile=$state.proxy
#$(stat -c %y "$state.proxy")
{% endif %}
END
{% if not has_proxy %}
	rm -f "$state.proxy"
{% endif %}
	# The arguments show by which unit a process was started.
	run="$(command -v gitlab-runner) run --config $config --working-directory $etc{{ listen }} --service outrigger-$(hash <unit)"
	printf 'ExecStart=\nExecStart=%s\n' "$run" >>unit
	want="$(id -u outrigger) 1 $run "
	same=yes
	cmp -s unit "$service.d/outrigger.conf" || { same=no && mv -f unit "$service.d/outrigger.conf"; }
	[ "$(stat -c %U "$etc" "$etc/.runner_system_id" "$config" | sort -u)" = outrigger ] || give
	systemctl daemon-reload
	# Before it knows of our entry. Where it does already, this waits for a running job, as the unit says now.
	{ [ $same = yes ] && is_hardened; } || systemctl restart gitlab-runner
}

# Is its process under this unit? Leaves user, NoNewPrivs and command line in "is".
is_hardened() {
	pid=/proc/$(systemctl show -p MainPID --value gitlab-runner)
	is=$(sed -nE 's/^(Uid|NoNewPrivs):\t([0-9]+).*/\2/p' "$pid/status" | tr '\n' ' ' && tr '\0' ' ' <"$pid/cmdline")
	[ "$is" = "$want" ]
}

# A running service sees a new config.toml by itself; a restart would end its jobs.
start_service() {
	step=service
{% if shared %}
	if [ "$owner" = them ]; then
		systemctl is-active --quiet gitlab-runner || say 'gitlab-runner is not running, and not ours to start'
		return
	fi
{% endif %}
	systemctl enable --now gitlab-runner
	# It must be the same one a while later.
	tries=10 was=''
	until is_hardened && [ "$pid" = "$was" ]; do
		was=$pid
		tries=$((tries - 1))
		[ $tries -gt 0 ] || fail "the process of gitlab-runner is ${is:-not running}, not $want"
		sleep 2
	done
}
