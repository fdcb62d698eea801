//! Debian packages of gitlab-runner, built as GitLab's are: same names, versions and dependencies, and what they do
//! at installation and removal is GitLab's own scripts, from the runner's source.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::runners;

/// One version of the runner.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its version as in `gitlab-runner --version`, without the package's `-1`.
    pub version: String,
    /// The program.
    pub binary: PathBuf,
}

/// Builds the runner's package and that of its helper images into a folder; `work` is for what is in them.
pub fn build(release: &Release, folder: &Path, work: &Path) -> Result<(), String> {
    let version = &release.version;
    let packaging = runners::packaging()?;
    let script = |name: &str| packaging.join("scripts").join(name);
    let share = |name: &str| packaging.join("root/usr/share/gitlab-runner").join(name);
    // GitLab's also depends on git, which a runner for Kubernetes does not need and the roots lack: it would
    // bring 20 MB of packages with it, and nothing to test.
    let runner = Package {
        name: "gitlab-runner",
        depends: &format!("ca-certificates, curl, tar, gitlab-runner-helper-images (= {version}-1)"),
        scripts: &[("postinst", script("postinst.deb")), ("prerm", script("prerm.deb"))],
        files: &[
            ("usr/bin/gitlab-runner", release.binary.clone()),
            ("usr/share/gitlab-runner/post-install", share("post-install")),
            ("usr/share/gitlab-runner/pre-remove", share("pre-remove")),
            ("usr/share/gitlab-runner/clear-docker-cache", share("clear-docker-cache")),
        ],
    };
    // Half a gigabyte in truth.
    let images = work.join("images");
    fs::write(&images, "no image\n").map_err(|error| error.to_string())?;
    let helper = Package {
        name: "gitlab-runner-helper-images",
        depends: "",
        scripts: &[],
        files: &[("usr/lib/gitlab-runner/helper-images/prebuilt-x86_64.tar.xz", images)],
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
    scripts: &'a [(&'a str, PathBuf)],
    files: &'a [(&'a str, PathBuf)],
}

impl Package<'_> {
    fn build(&self, version: &str, folder: &Path, work: &Path) -> std::io::Result<()> {
        let tree = work.join(format!("{}-{version}", self.name));
        let control = tree.join("DEBIAN");
        fs::create_dir_all(&control)?;
        let depends = if self.depends.is_empty() { "" } else { &format!("Depends: {}\n", self.depends) };
        let text = format!(
            "Package: {}\nVersion: {version}-1\nArchitecture: amd64\nMaintainer: Tests <tests@example.com>\n\
             Section: default\nPriority: optional\n{depends}Description: for tests\n",
            self.name
        );
        fs::write(control.join("control"), text)?;
        for (name, source) in self.scripts {
            put(&control.join(name), source)?;
        }
        for (name, source) in self.files {
            put(&tree.join(name), source)?;
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
fn put(path: &Path, source: &Path) -> std::io::Result<()> {
    fs::create_dir_all(path.parent().expect("a file is in a folder"))?;
    fs::copy(source, path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
