# Processes on this machine lose the metadata service, which has this script; cloud-init does it at each boot.
lock_metadata() {
	step=lock-metadata
	# cloud-init itself closes the way of IPv4 alone.
	printf '%s\n' 'disable_ec2_metadata: true' 'bootcmd:' '- ip -6 route replace prohibit fd00:ec2::254 || true' \
		>/etc/cloud/cloud.cfg.d/99-outrigger-metadata.cfg
	ip route replace prohibit 169.254.169.254
	ip -6 route replace prohibit fd00:ec2::254 || ! grep -qs . /proc/net/if_inet6
}
