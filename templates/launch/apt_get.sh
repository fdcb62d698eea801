# Asks nothing, restarts no other service.
apt_get() {
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
	# After a power cut.
	dpkg --configure -a || :
	apt-get -y -o "DPkg::Lock::Timeout=$lock_wait" -o Acquire::Retries=3 -o APT::Update::Error-Mode=any \
		-o Dpkg::Options::=--force-confold --no-install-recommends "$@"
}
