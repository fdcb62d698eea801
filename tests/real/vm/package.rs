//! Debian packages of the stand-in for gitlab-runner, built as GitLab's are: same names, versions,
//! dependencies, and the same deeds at installation.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One version of the runner.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its version as in `gitlab-runner --version`, without the package's `-1`.
    pub version: String,
    /// The program.
    pub binary: PathBuf,
}

/// What the runner's package does when it is installed or upgraded, as GitLab's `post-install` of 19.4: a user,
/// a folder for the configuration, and a service that is made anew and runs, as root. `install` also writes a
/// first `config.toml`. (Without what concerns docker, runners before 10.0, and machines without systemd.)
const POSTINST: &str = "#!/bin/sh
set -e
case \"$1\" in
	abort-upgrade | abort-remove | abort-deconfigure) exit 0 ;;
	configure) ;;
	*) exit 1 ;;
esac
USER=gitlab-runner
if ! id -u \"$USER\" >/dev/null 2>/dev/null; then
	echo \"GitLab Runner: creating $USER...\"
	useradd --system --shell /bin/bash --comment 'GitLab Runner' --create-home --skel /dev/null \"$USER\"
fi
eval HOMEDIR=~\"$USER\"
mkdir -p /etc/gitlab-runner
chmod 0700 /etc/gitlab-runner
if [ -f \"$HOMEDIR\"/config.toml ] && [ ! -f /etc/gitlab-runner/config.toml ]; then
	echo 'GitLab Runner: importing configuration to /etc/gitlab-runner/config.toml'
	cp \"$HOMEDIR\"/config.toml /etc/gitlab-runner/config.toml
	chmod 0600 /etc/gitlab-runner/config.toml
fi
if gitlab-runner status --service=gitlab-runner; then
	gitlab-runner stop --service=gitlab-runner >/dev/null 2>/dev/null || :
	gitlab-runner uninstall --service=gitlab-runner >/dev/null 2>/dev/null || :
fi
gitlab-runner stop >/dev/null 2>/dev/null || :
gitlab-runner uninstall >/dev/null 2>/dev/null || :
if [ -z \"${USE_INIT_USER}\" ]; then
	gitlab-runner install --user=\"$USER\" --working-directory=\"${HOMEDIR}\"
else
	gitlab-runner install --init-user=\"$USER\" --working-directory=\"${HOMEDIR}\"
	targetPath=\"${HOMEDIR}/config.toml\"
	if [ ! -f \"${targetPath}\" ] && [ -f /etc/gitlab-runner/config.toml ]; then
		cp /etc/gitlab-runner/config.toml \"${targetPath}\"
		chown \"$USER\":\"$USER\" \"${targetPath}\"
	fi
fi
gitlab-runner start || :
";

/// What it does before it is removed, and before another version takes its place.
const PRERM: &str = "#!/bin/sh
set -e
gitlab-runner stop >/dev/null 2>/dev/null || :
gitlab-runner uninstall >/dev/null 2>/dev/null || :
exit 0
";

/// Builds the runner's package and that of its helper images into a folder; `work` is for what is in them.
pub fn build(release: &Release, folder: &Path, work: &Path) -> Result<(), String> {
    let version = &release.version;
    // GitLab's also depends on git, which a runner for Kubernetes does not need and the roots lack: it would
    // bring 20 MB of packages with it, and nothing to test.
    let runner = Package {
        name: "gitlab-runner",
        depends: &format!("ca-certificates, curl, tar, gitlab-runner-helper-images (= {version}-1)"),
        scripts: &[("postinst", POSTINST), ("prerm", PRERM)],
        files: &[("usr/bin/gitlab-runner", &release.binary)],
    };
    // Half a gigabyte in truth.
    let images = work.join("images");
    fs::write(&images, "no image\n").map_err(|error| error.to_string())?;
    let helper = Package {
        name: "gitlab-runner-helper-images",
        depends: "",
        scripts: &[],
        files: &[("usr/lib/gitlab-runner/helper-images/prebuilt-x86_64.tar.xz", &images)],
    };
    for package in [runner, helper] {
        package
            .build(version, folder, work)
            .map_err(|error| format!("package {} {version}: {error}", package.name))?;
    }
    Ok(())
}

struct Package<'a> {
    name: &'a str,
    depends: &'a str,
    scripts: &'a [(&'a str, &'a str)],
    files: &'a [(&'a str, &'a PathBuf)],
}

impl Package<'_> {
    fn build(&self, version: &str, folder: &Path, work: &Path) -> std::io::Result<()> {
        let tree = work.join(format!("{}-{version}", self.name));
        let control = tree.join("DEBIAN");
        fs::create_dir_all(&control)?;
        let depends = if self.depends.is_empty() { "" } else { &format!("Depends: {}\n", self.depends) };
        let text = format!(
            "Package: {}\nVersion: {version}-1\nArchitecture: amd64\nMaintainer: Tests <tests@example.com>\n\
             Section: default\nPriority: optional\n{depends}Description: stand-in for tests\n",
            self.name
        );
        fs::write(control.join("control"), text)?;
        for (name, script) in self.scripts {
            put(&control.join(name), script.as_bytes())?;
        }
        for (name, source) in self.files {
            put(&tree.join(name), &fs::read(source)?)?;
        }
        // Little compression: it is unpacked on the same machine, in a moment.
        let output = Command::new("dpkg-deb")
            .args(["-Zgzip", "-z1", "--root-owner-group", "--build"])
            .arg(&tree)
            .arg(folder.join(format!("{}_{version}-1_amd64.deb", self.name)))
            .output()?;
        fs::remove_dir_all(&tree)?;
        if output.status.success() {
            return Ok(());
        }
        Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// Writes a file that can be executed, and its folders.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(path.parent().expect("a file is in a folder"))?;
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
