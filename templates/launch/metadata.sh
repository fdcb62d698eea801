# Processes on this machine lose the metadata service, which has this script; cloud-init does it at each boot.
lock_metadata() {
	step=lock-metadata
	echo 'disable_ec2_metadata: true' >/etc/cloud/cloud.cfg.d/99-outrigger-metadata.cfg
	ip route replace prohibit 169.254.169.254
}
