//! The secrets file of a script without secrets: mode 0600, next to the script.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::base::secret::Secret;

const HEADER: &str = "# outrigger-launch-secrets deployment=";

/// The path of the secrets file: the script's path with `.secrets` appended.
pub fn path_beside(script: &Path) -> PathBuf {
    let mut path = OsString::from(script);
    path.push(".secrets");
    path.into()
}

/// The tokens for a machine. One that is not given stays as it is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokens<'a> {
    /// The runner's authentication token, `glrt-…`.
    pub runner: Option<&'a Secret>,
    /// When that token expires (RFC 3339, UTC), if known.
    pub runner_expires: Option<&'a str>,
    /// The cluster token.
    pub bearer: Option<&'a Secret>,
}

impl<'a> Tokens<'a> {
    /// These, and of `kept` what is not among them.
    pub fn or(self, kept: &'a Kept) -> Self {
        let (runner, bearer) = (self.runner.or(kept.runner.as_ref()), self.bearer.or(kept.bearer.as_ref()));
        Self { runner, bearer, ..self }
    }
}

/// The tokens in an earlier file.
#[derive(Debug, Default)]
pub struct Kept {
    runner: Option<Secret>,
    bearer: Option<Secret>,
}

/// The tokens in a secrets file of this deployment, none for another file. A runner's token that expires is not among
/// them: the runner on the machine may have renewed it.
pub fn lasting(text: &str, deployment: &str) -> Kept {
    if !is_ours(text, deployment) {
        return Kept::default();
    }
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let secret = |name: &str| line(name).filter(|token| !token.is_empty()).map(Secret::new);
    let expires = line("runner_expires").is_some();
    Kept { runner: secret("runner_token").filter(|_| !expires), bearer: secret("bearer_token") }
}

/// The content: a header, then one line for each token, `runner_token=` and `bearer_token=`, and `runner_expires=` if
/// the runner's token expires.
pub fn text(deployment: &str, tokens: Tokens<'_>) -> Secret {
    let lines = [
        ("runner_token", tokens.runner.map(Secret::expose)),
        ("bearer_token", tokens.bearer.map(Secret::expose)),
        ("runner_expires", tokens.runner_expires.filter(|_| tokens.runner.is_some())),
    ];
    let lines = lines.iter().filter_map(|(name, value)| Some(format!("{name}={}\n", (*value)?)));
    Secret::new(format!("{HEADER}{deployment}\n{}", lines.collect::<String>()))
}

/// Whether `text` is a secrets file of this deployment.
pub fn is_ours(text: &str, deployment: &str) -> bool {
    text.lines().next().and_then(|line| line.strip_prefix(HEADER)) == Some(deployment)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Tokens, is_ours, lasting, path_beside, text};
    use crate::base::secret::Secret;

    #[test]
    fn writes_and_recognises_the_secrets_file() {
        let (runner, bearer) = (Secret::new("glrt-EXAMPLE"), Secret::new("eyJ.EXAMPLE"));
        let both = Tokens { runner: Some(&runner), bearer: Some(&bearer), runner_expires: None };
        let file = text("web", both);
        assert_eq!(
            file.expose(),
            "# outrigger-launch-secrets deployment=web\nrunner_token=glrt-EXAMPLE\nbearer_token=eyJ.EXAMPLE\n"
        );
        let ends = Tokens { runner_expires: Some("2027-01-02T03:04:05Z"), ..both };
        assert!(text("web", ends).expose().ends_with("\nrunner_expires=2027-01-02T03:04:05Z\n"));
        let one = Tokens { runner: None, ..ends };
        assert_eq!(
            text("web", one).expose(),
            "# outrigger-launch-secrets deployment=web\nbearer_token=eyJ.EXAMPLE\n"
        );
        // The other token of an earlier file stays, unless it may have been renewed.
        let new = Secret::new("eyJ.NEW");
        let renewed = |earlier: &Secret| {
            let kept = lasting(earlier.expose(), "web");
            text("web", Tokens { bearer: Some(&new), ..Tokens::default() }.or(&kept)).expose().to_owned()
        };
        let begin = "# outrigger-launch-secrets deployment=web\n";
        assert_eq!(renewed(&file), format!("{begin}runner_token=glrt-EXAMPLE\nbearer_token=eyJ.NEW\n"));
        assert_eq!(renewed(&text("web", ends)), format!("{begin}bearer_token=eyJ.NEW\n"));
        assert_eq!(renewed(&text("we", both)), format!("{begin}bearer_token=eyJ.NEW\n"));
        assert!(is_ours(file.expose(), "web"));
        assert!(!is_ours(file.expose(), "we") && !is_ours("", "web"));
        assert!(!is_ours(&format!("# mine\n{}", file.expose()), "web"));
        assert_eq!(path_beside(Path::new("/a/launch.sh")), Path::new("/a/launch.sh.secrets"));
    }
}
