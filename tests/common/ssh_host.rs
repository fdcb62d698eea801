//! A host over SSH. A stand-in for `ssh` runs what it gets in a private `/run` and `/var/lib/outrigger`, with a stand-in
//! for the launch script; the real ones are tested on machines that boot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// The stand-in for `ssh`. Files beside it steer it: `says` is what it says instead of connecting, `cut` is how many
/// lines come before the connection is lost, once.
pub const SSH: &str = r#"#!/bin/sh
D=$(dirname "$0")/..
printf '%s\n' "$*" >>"$D/argv"
env >>"$D/env"
if [ -e "$D/says" ]; then cat "$D/says" >&2; exit 255; fi
for last; do :; done
inside() {
	unshare --user --map-root-user --mount sh -c '
		mount --bind "$1/run" /run
		mount --bind "$1/lib" /var/lib
		mount --bind "$1/os-release" "$(readlink -f /etc/os-release)"
		export PATH="$1/host:$PATH" D="$1"
		exec sh -c "$2"
	' ssh "$D" "$last"
}
if [ -e "$D/cut" ]; then
	lines=$(cat "$D/cut")
	rm "$D/cut"
	inside | { head -n "$lines"; kill -9 $$; }
else
	inside
fi
"#;

/// The host's `sh`: a stand-in for the scripts of outrigger, which it knows by their names, else the real one.
const SH: &str = r#"#!/bin/sh
case $1 in script) ;; *) exec /bin/sh "$@" ;; esac
state=/var/lib/outrigger/$(sed -n 's/^# outrigger-[a-z]*-script deployment=\([^ ]*\).*/\1/p' script)
mkdir -p /var/lib/outrigger
cp script "$D/got.script"
[ -z "$2" ] || cp "$2" "$D/got.secrets"
echo "outrigger: begins"
if grep -q ^#.outrigger-uninstall script; then
	while [ -e "$D/slow-undo" ]; do sleep 0.1; done
	rm -f "$state.json" "$state.digest"
	exit 0
fi
digest=$(sed -n 's/^# outrigger-launch.*digest=\([^ ]*\).*/\1/p' script)
[ ! -e "$D/slow" ] || while [ -e "$D/slow" ]; do sleep 0.1; done
for n in 1 2 3 4 5; do echo "outrigger: line $n"; done
step=end reason='' result=ok
[ ! -e "$D/fails" ] || { read -r step reason <"$D/fails"; result=failed; }
if [ ! -e "$D/theirs" ]; then
	sed -n "s/^	version=//p" script | tr -d "'" >"$D/version"
	echo whole >"$state.installed"
fi
if [ -e "$D/breaks" ] && cmp -s "$D/breaks" "$D/version"; then step=service reason='it does not start' result=failed; fi
echo "{\"result\":\"$result\",\"step\":\"$step\",\"reason\":\"$reason\",\"digest\":\"$digest\",\"delivery\":\"$OUTRIGGER_DELIVERY\"}" >"$state.json"
[ $result = ok ] || exit 1
echo "$digest x" >"$state.digest"
"#;

/// The one of the stand-in for gitlab-runner.
const SYSTEM_ID: &str = "s_0123456789ab";

/// The files of the host, and those that steer the stand-ins.
pub struct SshHost(tempfile::TempDir);

impl SshHost {
    /// A Debian with root rights and gitlab-runner.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("outrigger-host-").tempdir().expect("a temporary folder");
        for name in ["bin", "host", "run", "lib"] {
            fs::create_dir(dir.path().join(name)).expect("a folder");
        }
        let host = Self(dir);
        host.program("bin/ssh", SSH);
        host.steer("os-release", "ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\n");
        host.program("host/sh", SH);
        // The system id of gitlab-runner is read so.
        host.program("host/dd", "#!/bin/sh\ncat \"$D/id\" 2>/dev/null\n");
        host.steer("id", SYSTEM_ID);
        host.program("host/systemctl", "#!/bin/sh\necho active\n");
        host.program("host/gitlab-runner", "#!/bin/sh\necho \"Version:      $(cat \"$D/version\")\"\n");
        host.steer("version", "19.4.1\n");
        host.program("host/systemd-run", "#!/bin/sh\nexit 1\n");
        fs::create_dir_all(host.path("run/systemd/system")).expect("a folder");
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn program(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a program");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).expect("a program");
    }

    pub fn steer(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The search path on which `ssh` is the stand-in.
    pub fn search_path(&self) -> String {
        format!("{}:/usr/local/bin:/usr/bin:/bin", self.path("bin").display())
    }
}
