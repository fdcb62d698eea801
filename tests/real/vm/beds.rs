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

/// Where the stand-ins for gitlab-runner are, `runner-<version>/gitlab-runner` each: with
/// `OUTRIGGER_TEST_RUNNERS` elsewhere than `tests/real/build-runner.sh` puts them.
fn runners() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("OUTRIGGER_TEST_RUNNERS").or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
        Some(cache.join("outrigger-test"))
    })
}

/// The versions that are built.
fn releases() -> Vec<Release> {
    let folder = runners().unwrap_or_default();
    [VERSION]
        .into_iter()
        .chain(OTHER_VERSIONS)
        .map(|version| Release {
            version: version.to_owned(),
            binary: folder.join(format!("runner-{version}/gitlab-runner")),
        })
        .filter(|release| release.binary.is_file())
        .collect()
}

/// Whether all versions are there to be installed, or why not.
pub fn runner() -> Result<(), String> {
    let built = releases();
    let all = [VERSION].into_iter().chain(OTHER_VERSIONS);
    let missing = all.into_iter().find(|version| built.iter().all(|release| release.version != *version));
    missing.map_or(Ok(()), |version| {
        Err(format!("there is no gitlab-runner {version}: build it with tests/real/build-runner.sh"))
    })
}
