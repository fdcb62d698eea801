//! `outrigger version`.

use serde_json::json;

use crate::base::error::Result;
use crate::commands::session::Outside;
use crate::commands::{Ended, write_page};
use crate::settings::DEFAULT_RUNNER_VERSION;

/// The commit that this binary was built from, where the build says it (`OUTRIGGER_COMMIT`, as `.ci/run` does).
/// `cargo install` does not: a package of the sources has no git repository.
const COMMIT: Option<&str> = option_env!("OUTRIGGER_COMMIT");

/// Prints the version of outrigger with its commit and platform, and that of gitlab-runner it installs by default.
pub fn version(outside: &Outside<'_>) -> Result<Ended> {
    let version = env!("CARGO_PKG_VERSION");
    let commit = COMMIT.filter(|commit| !commit.is_empty());
    let told = commit.unwrap_or("not recorded in this build");
    let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let libc = if cfg!(target_env = "musl") {
        " (musl)"
    } else if cfg!(target_env = "gnu") {
        " (glibc)"
    } else {
        ""
    };
    let platform = platform + libc;
    let text = format!(
        "outrigger      {version}\ncommit         {told}\nplatform       {platform}\n\
         gitlab-runner  {DEFAULT_RUNNER_VERSION} (default of --runner-version)\n"
    );
    let fields = [
        ("version", json!(version)),
        ("commit", json!(commit)),
        ("platform", json!(platform)),
        ("gitlabRunner", json!(DEFAULT_RUNNER_VERSION)),
    ];
    write_page(outside, &text, "version", &fields)
}
