//! The Debian roots that machines start from, made by `tests/real/build-roots.sh`.

use std::path::{Path, PathBuf};

/// The edition of the roots, as `build-roots.sh` has it.
const EDITION: &str = "1";

/// What the machines need of this side.
const PROGRAMS: [&str; 9] = [
    "systemd-nspawn",
    "unshare",
    "nsenter",
    "ip",
    "dpkg-deb",
    "dpkg-scanpackages",
    "gpg",
    "ssh",
    "ssh-keygen",
];

/// A root to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Debian 12 with curl, gpg and certificates.
    Bookworm,
    /// Debian 13 with the same.
    Trixie,
    /// Debian 12 without them.
    Small,
}

impl Root {
    /// All of them.
    pub const ALL: [Root; 3] = [Root::Bookworm, Root::Trixie, Root::Small];

    /// The name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Root::Bookworm => "bookworm",
            Root::Trixie => "trixie",
            Root::Small => "bookworm-small",
        }
    }

    /// The release's code name.
    pub fn codename(self) -> &'static str {
        match self {
            Root::Bookworm | Root::Small => "bookworm",
            Root::Trixie => "trixie",
        }
    }
}

/// Where the roots are.
pub struct Roots {
    folder: PathBuf,
}

impl Roots {
    /// Finds them, or says why machines cannot be booted here.
    pub fn find() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("machines are booted by root only".to_owned());
        }
        for program in PROGRAMS {
            let path = std::env::var_os("PATH").unwrap_or_default();
            if !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
                return Err(format!("there is no {program}"));
            }
        }
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("OUTRIGGER_TEST_ROOTS")
            .or_else(|| {
                let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
                Some(cache.join(format!("outrigger-test/roots-{EDITION}")))
            })
            .ok_or("neither OUTRIGGER_TEST_ROOTS nor HOME is set")?;
        for name in Root::ALL.map(Root::name).into_iter().chain(["bookworm-mirror"]) {
            if !folder.join(name).is_dir() {
                return Err(format!(
                    "{name} is not in {}: make the roots with tests/real/build-roots.sh",
                    folder.display()
                ));
            }
        }
        Ok(Self { folder })
    }

    /// A root's folder. Nothing may be written there.
    pub fn path(&self, root: Root) -> PathBuf {
        self.folder.join(root.name())
    }

    /// The packages that the small root lacks, as files.
    pub fn mirror(&self) -> PathBuf {
        self.folder.join("bookworm-mirror")
    }
}

/// `path`, which is one inside of a machine, below `root`.
pub fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}
