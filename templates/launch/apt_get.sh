# Asks nothing, restarts no other service.
apt() {
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
	dpkg --configure -a || : # after a power cut
	retry apt-get -y -o "DPkg::Lock::Timeout=$lock_wait" -o Acquire::Retries=3 \
		-o APT::Update::Error-Mode=any -o Dpkg::Options::=--force-confold --no-install-recommends "$@"
}
