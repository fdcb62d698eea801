//! The file that a script without secrets takes them from: mode 0600, beside the script.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::launch_script::ScriptSecrets;
use crate::base::secret::Secret;

const HEADER: &str = "# outrigger-launch-secrets deployment=";

/// Where the secrets of the script at `script` lie: the same name with `.secrets` behind it.
pub fn path_beside(script: &Path) -> PathBuf {
    let mut path = OsString::from(script);
    path.push(".secrets");
    path.into()
}

/// What the file says: its mark, then `runner_token=` and `bearer_token=`, a line each, and
/// `runner_expires=` where that token ends.
pub fn text(deployment: &str, secrets: ScriptSecrets<'_>) -> Secret {
    let expires = secrets.runner_expires.map(|time| format!("runner_expires={time}\n")).unwrap_or_default();
    Secret::new(format!(
        "{HEADER}{deployment}\nrunner_token={}\nbearer_token={}\n{expires}",
        secrets.runner_token.expose(),
        secrets.bearer_token.expose()
    ))
}

/// Is `text` a file with secrets that was written for this deployment?
pub fn is_ours(text: &str, deployment: &str) -> bool {
    text.lines().next().and_then(|line| line.strip_prefix(HEADER)) == Some(deployment)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{is_ours, path_beside, text};
    use crate::base::secret::Secret;
    use crate::machine::ScriptSecrets;

    #[test]
    fn three_lines_that_are_known_again() {
        let (runner, bearer) = (Secret::new("glrt-EXAMPLE"), Secret::new("eyJ.EXAMPLE"));
        let file =
            text("web", ScriptSecrets { runner_token: &runner, bearer_token: &bearer, runner_expires: None });
        assert_eq!(
            file.expose(),
            "# outrigger-launch-secrets deployment=web\nrunner_token=glrt-EXAMPLE\nbearer_token=eyJ.EXAMPLE\n"
        );
        let ends = ScriptSecrets {
            runner_token: &runner,
            bearer_token: &bearer,
            runner_expires: Some("2027-01-02T03:04:05Z"),
        };
        assert!(text("web", ends).expose().ends_with("\nrunner_expires=2027-01-02T03:04:05Z\n"));
        assert!(is_ours(file.expose(), "web"));
        assert!(!is_ours(file.expose(), "we") && !is_ours("", "web"));
        assert!(!is_ours(&format!("# mine\n{}", file.expose()), "web"));
        assert_eq!(path_beside(Path::new("/a/launch.sh")), Path::new("/a/launch.sh.secrets"));
    }
}
