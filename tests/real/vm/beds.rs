//! What a trial finds: machines to boot, and what they need around them.

use std::path::PathBuf;

use super::Vm;
use super::apt::AptServer;
use super::package::Release;
use super::repository::Repository;
use super::roots::{Root, Roots};
use super::run::Run;

/// The version of the runner that launch scripts of these tests ask for.
pub const VERSION: &str = "19.4.1";

/// One that an old host may have, and one that comes out tomorrow.
pub const OTHER_VERSIONS: [&str; 2] = ["17.9.0", "19.5.0"];

/// The run's own things, shared by all trials.
pub struct Beds {
    run: Run,
    roots: Roots,
    /// The packages that the servers of all trials serve.
    pub repository: Repository,
    /// The versions of the runner that are among them.
    pub releases: Vec<Release>,
}

impl Beds {
    /// Sweeps what killed runs left, and makes what trials share.
    pub fn new(roots: Roots) -> Result<Self, String> {
        let run = Run::new()?;
        let releases = releases();
        let repository = Repository::build(run.folder().join("repository"), &roots, &releases)?;
        Ok(Self { run, roots, repository, releases })
    }

    /// A new machine, switched off.
    pub fn vm(&self, root: Root) -> Vm {
        Vm::new(&self.run, &self.roots, root)
    }

    /// The same with so many bytes free on its disk.
    pub fn vm_with_disk(&self, root: Root, bytes: u64) -> Vm {
        Vm::with_disk(&self.run, &self.roots, root, bytes)
    }

    /// A server of packages of the trial's own.
    pub fn apt(&self) -> AptServer {
        AptServer::start(&self.repository)
    }
}

/// Where the stand-in for gitlab-runner is, as built by `tests/real/build-runner.sh`.
fn runner_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("OUTRIGGER_TEST_RUNNER").or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
        Some(cache.join("outrigger-test/runner"))
    })
}

/// The versions that are built: `gitlab-runner` is the usual one, others have theirs behind a dash.
fn releases() -> Vec<Release> {
    let Some(folder) = runner_folder() else { return Vec::new() };
    let usual = (VERSION, folder.join("gitlab-runner"));
    let others = OTHER_VERSIONS.map(|version| (version, folder.join(format!("gitlab-runner-{version}"))));
    [usual]
        .into_iter()
        .chain(others)
        .filter(|(_, binary)| binary.is_file())
        .map(|(version, binary)| Release { version: version.to_owned(), binary })
        .collect()
}

/// Whether there is a runner to install, or why not.
pub fn runner() -> Result<(), String> {
    if releases().iter().any(|release| release.version == VERSION) {
        return Ok(());
    }
    let folder = runner_folder().unwrap_or_default();
    Err(format!("gitlab-runner is not in {}: build it with tests/real/build-runner.sh", folder.display()))
}
