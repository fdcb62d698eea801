//! What a trial finds: machines to boot, and what they need around them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::Vm;
use super::apt::AptServer;
use super::package::Release;
use super::repository::Repository;
use super::roots::{Root, Roots};
use super::run::Run;
use crate::runners;

pub use crate::runners::VERSION;

/// One that an old host may have, and one that comes out tomorrow.
pub const OTHER_VERSIONS: [&str; 2] = [runners::OLDER, runners::NEWER];

/// The run's own things, shared by all trials.
pub struct Beds {
    run: Arc<Run>,
    roots: Arc<Roots>,
    /// The packages that the servers of all trials serve.
    pub repository: Repository,
    /// The versions of the runner that are among them.
    pub releases: Vec<Release>,
}

impl Beds {
    /// Sweeps what killed runs left, and makes what trials share.
    pub fn new(roots: Roots) -> Result<Self, String> {
        let run = Run::new()?;
        let mut releases = releases();
        releases.push(broken(run.folder())?);
        let repository = Repository::build(run.folder().join("repository"), &roots, &releases)?;
        Ok(Self { run: Arc::new(run), roots: Arc::new(roots), repository, releases })
    }

    /// A new machine, switched off.
    pub fn vm(&self, root: Root) -> Vm {
        Vm::new(&self.run, &self.roots, root)
    }

    /// The same with so many bytes free on its disk.
    pub fn vm_with_disk(&self, root: Root, bytes: u64) -> Vm {
        Vm::with_disk(&self.run, &self.roots, root, bytes)
    }

    /// Makes machines for somebody who outlives the call, as a server does. What the run has made is removed
    /// after the last of these, too.
    pub fn maker(&self, root: Root) -> impl Fn() -> Vm + Send + Sync + use<> {
        let (run, roots) = (Arc::clone(&self.run), Arc::clone(&self.roots));
        move || Vm::new(&run, &roots, root)
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        self.run.folder()
    }

    /// A server of packages of the trial's own.
    pub fn apt(&self) -> AptServer {
        AptServer::start(&self.repository)
    }
}

/// A version whose service does not start. It is not the newest, which a usual upgrade takes.
pub const BROKEN: &str = "19.4.5";

/// It knows everything but its work.
fn broken(folder: &Path) -> Result<Release, String> {
    let program = format!(
        "#!/bin/sh\ncase $1 in\n--version) echo 'Version:      {BROKEN}' ;;\nrun) echo 'FATAL: no work today' >&2; exit 1 ;;\n\
         verify) echo 'Verifying runner... is valid' ;;\nlist) echo 'Listing configured runners' ;;\nesac\n"
    );
    let binary = folder.join("broken-runner");
    fs::write(&binary, program).map_err(|error| format!("{}: {error}", binary.display()))?;
    Ok(Release { version: BROKEN.to_owned(), binary })
}

/// The versions that are built.
fn releases() -> Vec<Release> {
    let built = |&(version, player): &(&str, _)| {
        let binary = runners::program(player, version, "gitlab-runner").ok()?;
        Some(Release { version: version.to_owned(), binary })
    };
    runners::BUILDS.iter().filter_map(built).collect()
}

/// Whether all versions are there to be installed, or why not.
pub fn runner() -> Result<(), String> {
    runners::all()
}
