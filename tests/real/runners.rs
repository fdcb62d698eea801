//! The builds of gitlab-runner that trials install, one for each version.
//!
//! Real ones are GitLab's source of one version, stamped with the version that is played
//! (`tests/real/build-real-runner.sh`). The stand-in in Go (`tests/real/build-runner.sh`) plays what that source
//! cannot: a runner before 19.3.

#![allow(dead_code, reason = "each test target uses another part")]

use std::fs;
use std::path::PathBuf;

/// Who plays a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Player {
    /// GitLab's source.
    Real,
    /// The stand-in.
    StandIn,
}

/// The version that launch scripts of these tests ask for.
pub const VERSION: &str = "19.4.1";

/// A version that comes out tomorrow.
pub const NEWER: &str = "19.5.0";

/// A version that an old host may have. Before 19.3 a runner has no `lint`: the real source has it, so the
/// stand-in plays this one.
pub const OLDER: &str = "17.9.0";

/// All versions, and who plays each.
pub const BUILDS: [(&str, Player); 3] =
    [(VERSION, Player::Real), (NEWER, Player::Real), (OLDER, Player::StandIn)];

/// A program of a version: `gitlab-runner`, or `gitlab-runner-helper` of a real one. Fails with what to do when
/// it is not built.
pub fn program(player: Player, version: &str, name: &str) -> Result<PathBuf, String> {
    let (prefix, script) = match player {
        Player::Real => ("real-runner", "build-real-runner.sh"),
        Player::StandIn => ("runner", "build-runner.sh"),
    };
    let path = folder().unwrap_or_default().join(format!("{prefix}-{version}")).join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("there is no {name} {version}: build it with RUNNER_VERSION={version} tests/real/{script}"))
}

/// What GitLab's packages hold beside programs, and do when they are installed: `scripts/`, `root/`.
pub fn packaging() -> Result<PathBuf, String> {
    let program = program(Player::Real, VERSION, "gitlab-runner")?;
    Ok(program.with_file_name("packaging"))
}

/// Whether every build is there, or what to do.
pub fn all() -> Result<(), String> {
    for (version, player) in BUILDS {
        program(player, version, "gitlab-runner")?;
    }
    // To be compared with the real one.
    program(Player::StandIn, VERSION, "gitlab-runner")?;
    program(Player::Real, VERSION, "gitlab-runner-helper").map(drop)
}

/// Says what is real in this run.
#[expect(clippy::print_stderr, reason = "for whoever reads the trials' results")]
pub fn announce() {
    eprint!("{}", describe());
}

/// What plays each version, a line each.
fn describe() -> String {
    let line = |(version, player): &(&str, Player)| match player {
        Player::StandIn => format!("gitlab-runner {version}: the stand-in\n"),
        Player::Real => {
            let about = program(*player, version, "about")
                .and_then(|path| fs::read_to_string(path).map_err(|error| error.to_string()));
            format!("gitlab-runner {version}: {}\n", about.unwrap_or_default().trim_end())
        }
    };
    BUILDS.iter().map(line).collect()
}

/// Where the builds are: with `OUTRIGGER_TEST_RUNNERS` elsewhere than the scripts put them.
fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("OUTRIGGER_TEST_RUNNERS").or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
        Some(cache.join("outrigger-test"))
    })
}
