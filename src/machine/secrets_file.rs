//! The secrets file of a script without secrets: mode 0600, next to the script.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::launch_script::ScriptSecrets;
use crate::base::secret::Secret;

const HEADER: &str = "# outrigger-launch-secrets deployment=";

/// The path of the secrets file: the script's path with `.secrets` appended.
pub fn path_beside(script: &Path) -> PathBuf {
    let mut path = OsString::from(script);
    path.push(".secrets");
    path.into()
}

/// The content: a header, then one line each for `runner_token=` and `bearer_token=`, and `runner_expires=` if the
/// runner's token expires.
pub fn text(deployment: &str, secrets: ScriptSecrets<'_>) -> Secret {
    let expires = secrets.runner_expires.map(|time| format!("runner_expires={time}\n")).unwrap_or_default();
    Secret::new(format!(
        "{HEADER}{deployment}\nrunner_token={}\nbearer_token={}\n{expires}",
        secrets.runner_token.expose(),
        secrets.bearer_token.expose()
    ))
}

/// Whether `text` is a secrets file of this deployment.
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
    fn writes_and_recognises_the_secrets_file() {
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
