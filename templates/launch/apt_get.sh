# Asks nothing, restarts no other service.
apt_get() {
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
	# After a power cut.
	dpkg --configure -a || :
	set -- apt-get -y -o "DPkg::Lock::Timeout=$lock_wait" -o Acquire::Retries=3 -o Acquire::http::Timeout=20 \
		-o Acquire::https::Timeout=20 -o APT::Update::Error-Mode=any -o Dpkg::Options::=--force-confold \
		--no-install-recommends "$@"
	# Each source that never answers takes a while, and nobody knows how many there are.
	case $* in *' update') set -- timeout 300 "$@" ;; esac
	"$@"
}
