//! The operator's GitLab token: its source, and the host to which it may be sent.
//!
//! A token from the environment is sent only to the host set on the command line or in the environment, not to a
//! recorded host.

use std::collections::BTreeMap;
use std::path::Path;

use crate::base::error::{Failure, Id, Result};
use crate::base::files::Intake;
use crate::base::secret::Secret;
use crate::settings::{Settings, Source, check};
use crate::x509;
use crate::x509::tls::Roots;

/// Variables with a GitLab token, in glab's order of precedence.
pub const TOKENS: &[&str] = &["GITLAB_TOKEN", "GITLAB_ACCESS_TOKEN", "OAUTH_TOKEN"];
/// Variables with the host of those tokens.
const HOSTS: &[&str] = &["GITLAB_URL", "GITLAB_HOST", "GITLAB_URI", "GL_HOST"];

#[derive(Clone, Debug)]
pub enum Token {
    /// A token for the host of the settings.
    Given(Secret),
    /// No usable token, with the reason.
    None(String),
}

/// The first variable with a token, and the token.
pub fn from_env(env: &BTreeMap<String, String>) -> Option<(&'static str, Secret)> {
    TOKENS.iter().find_map(|name| {
        let value = env.get(*name).filter(|value| !value.is_empty())?;
        Some((*name, Secret::new(value.trim())))
    })
}

/// The token to use: typed, else from its file, else from the environment. Fails (exit 2) for a file that cannot be
/// read, and for another kind of token.
pub async fn token(
    settings: &Settings,
    env: &BTreeMap<String, String>,
    typed: Option<Secret>,
    intake: &Intake,
) -> Result<Token> {
    if let Some(token) = typed {
        return checked(token, "the answer").map(Token::Given);
    }
    let recorded = settings.gitlab_token_file.as_ref().filter(|path| path.source == Source::Record);
    if let Some(path) = settings.gitlab_token_file.as_ref().filter(|path| path.source != Source::Record) {
        return from_file(intake, &path.value).await.map(Token::Given);
    }
    let why = match from_environment(settings, env)? {
        Token::None(why) => why,
        given @ Token::Given(_) => return Ok(given),
    };
    let Some(path) = recorded else { return Ok(Token::None(why)) };
    // The user did not ask for this file in this run: an unreadable one is not an error.
    Ok(match from_file(intake, &path.value).await {
        Ok(token) => Token::Given(token),
        Err(failure) => Token::None(format!("{} (recorded)", failure.message)),
    })
}

async fn from_file(intake: &Intake, path: &Path) -> Result<Secret> {
    let token = read_secret(intake, path, "GitLab token").await?;
    checked(token, &path.display().to_string())
}

/// The token of a variable, if it may be sent to the host of the settings.
fn from_environment(settings: &Settings, env: &BTreeMap<String, String>) -> Result<Token> {
    let Some((name, token)) = from_env(env) else {
        return Ok(Token::None("no token: neither --gitlab-token-file nor GITLAB_TOKEN is set".to_owned()));
    };
    let Some(url) = &settings.gitlab_url else {
        return Ok(Token::None("no GitLab URL is set".to_owned()));
    };
    if url.source == Source::Record {
        return Ok(Token::None(format!(
            "{name} is not sent to the recorded host {}: set --gitlab-url as well",
            url.value
        )));
    }
    let named = HOSTS.iter().find_map(|host| env.get(*host).filter(|value| !value.is_empty()));
    if let Some(named) = named
        && check::gitlab_url(named).as_ref() != Ok(&url.value)
    {
        return Ok(Token::None(format!(
            "{name} is for {} (from the environment), not for {}: use --gitlab-token-file",
            check::escaped(named),
            url.value
        )));
    }
    checked(token, name).map(Token::Given)
}

/// Reads a file (or stdin for `-`) that contains only a secret. Fails (exit 2) for a file that is missing or not
/// text, and as [`Intake::secret`] does.
pub async fn read_secret(intake: &Intake, path: &Path, what: &str) -> Result<Secret> {
    let missing = || {
        Failure::new(Id::InvalidInput, format!("cannot read the {what} file {}", path.display()))
            .hint("it must contain the token and nothing else")
    };
    let bytes = intake.secret(path).await?.ok_or_else(missing)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| missing())?;
    Ok(Secret::new(text.trim()))
}

/// Refuses other kinds of tokens by their prefix. An instance can set its own prefix for access tokens.
fn checked(token: Secret, place: &str) -> Result<Secret> {
    let text = token.expose();
    let why = if text.is_empty() {
        "it is empty"
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        "it contains a blank, a line break or another character that tokens do not have"
    } else if text.contains("glrt-") || text.contains("glrtr-") {
        "it is a runner authentication token: use --runner-token-file"
    } else if text.starts_with("glcbt-") {
        "it is a CI job token, which cannot create runners"
    } else if text.starts_with("gldt-") {
        "it is a deploy token, which GitLab's API does not accept"
    } else if text.starts_with("GR1348941") {
        "it is a registration token: use --legacy-registration-token-file"
    } else {
        return Ok(token);
    };
    Err(Failure::new(Id::InvalidInput, format!("{place} does not contain a GitLab access token"))
        .detail("because", why)
        .hint("create one in GitLab (user menu, Access tokens) with the scope api"))
}

/// Refuses other kinds of tokens than a runner authentication token. An instance can put its own prefix in front of `glrt-`.
pub fn check_runner_token(token: &Secret) -> Result<()> {
    let text = token.expose();
    let wrong = |why: &str, hint: &str| {
        Err(Failure::new(
            Id::InvalidInput,
            "the runner token file does not contain a runner authentication token",
        )
        .detail("because", why)
        .hint(hint.to_owned()))
    };
    let create = "create the runner in GitLab (Settings, CI/CD, Runners) and use the token shown there, which begins with glrt-";
    if text.is_empty() {
        return wrong("it is empty", create);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong(
            "it contains a blank, a line break or another character that tokens do not have",
            create,
        );
    }
    // glrtr- is valid as well: registration returns it.
    if text.starts_with("GR1348941") {
        return wrong(
            "it is a registration token, which GitLab disables by default",
            "let setup create the runner: --gitlab-token-file PATH --project PATH|ID; where registration tokens are still allowed: --legacy-registration-token-file PATH",
        );
    }
    if text.starts_with("glpat-") {
        return wrong("it is a personal access token: use --gitlab-token-file", create);
    }
    Ok(())
}

/// The roots for GitLab: the machine's own and those of `--gitlab-ca-file`. Fails (exit 2) if the file is missing or
/// contains no certificate.
pub async fn gitlab_roots(settings: &Settings, intake: &Intake) -> Result<Roots> {
    let Some(path) = &settings.gitlab_ca_file else { return Ok(Roots::of_gitlab(None)) };
    let unusable = |why: String| {
        Failure::new(Id::InvalidInput, format!("invalid GitLab CA file {}", path.value.display()))
            .detail("because", why)
            .hint("it must contain the PEM certificates of the CA that signed GitLab's certificate")
    };
    let bytes = intake.file(&path.value).await?.ok_or_else(|| unusable("it does not exist".to_owned()))?;
    let bundle = x509::read_bundle(&bytes).map_err(|fault| unusable(fault.to_string()))?;
    Ok(Roots::of_gitlab(Some((bundle, path.value.clone()))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Token, checked, token};
    use crate::base::files::Intake;
    use crate::base::secret::Secret;
    use crate::settings::{Inputs, Settings, resolve};

    fn settings(args: &[&str], env: &BTreeMap<String, String>, recorded: Option<&str>) -> Settings {
        let args = ["outrigger", "setup"].iter().chain(args).map(Into::into).collect();
        let matches = crate::commands::cli::parse(args, &[]).expect("arguments").1;
        let recorded = recorded
            .map(|url| BTreeMap::from([("gitlabUrl".to_owned(), vec![url.to_owned()])]))
            .unwrap_or_default();
        let inputs = Inputs {
            matches: &matches,
            env,
            file: None,
            noted: None,
            asked: BTreeMap::new(),
            home: Some("/h".into()),
        };
        resolve(&inputs, |_, _| Ok(recorded)).expect("settings")
    }

    async fn sent(args: &[&str], env: &[(&str, &str)], recorded: Option<&str>) -> Result<String, String> {
        let env: BTreeMap<String, String> =
            env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let found = token(&settings(args, &env, recorded), &env, None, &Intake::default()).await;
        match found.expect("usable") {
            Token::Given(token) => Ok(token.expose().to_owned()),
            Token::None(why) => Err(why),
        }
    }

    #[tokio::test]
    async fn token_is_sent_only_to_the_host_set_with_it() {
        let token = ("GITLAB_TOKEN", "t1");
        let here = ("GITLAB_HOST", "gitlab.example.com");
        assert_eq!(sent(&[], &[token, here], None).await.as_deref(), Ok("t1"));
        assert_eq!(sent(&["--gitlab-url", "other.example.com"], &[token], None).await.as_deref(), Ok("t1"));
        assert_eq!(
            sent(&["--gitlab-url", "https://gitlab.example.com/"], &[token, here], None).await.as_deref(),
            Ok("t1")
        );
        // Another host by flag, or a recorded host.
        assert!(
            sent(&["--gitlab-url", "evil.example.com"], &[token, here], None)
                .await
                .expect_err("parted")
                .contains("gitlab.example.com")
        );
        assert!(
            sent(&[], &[token], Some("https://gitlab.example.com"))
                .await
                .expect_err("recorded")
                .contains("--gitlab-url")
        );
        assert!(sent(&[], &[token], None).await.is_err());
        assert!(sent(&[], &[], Some("https://gitlab.example.com")).await.is_err());
    }

    #[tokio::test]
    async fn first_token_variable_wins() {
        let env =
            [("OAUTH_TOKEN", "t3"), ("GITLAB_ACCESS_TOKEN", "t2"), ("GITLAB_TOKEN", ""), ("GITLAB_URL", "h")];
        assert_eq!(sent(&[], &env, None).await.as_deref(), Ok("t2"));
    }

    #[test]
    fn other_kinds_of_tokens_are_refused_without_showing_them() {
        for (bad, why) in [
            ("", "empty"),
            ("a b", "blank"),
            ("glrt-canary", "--runner-token-file"),
            ("acme-glrt-canary", "--runner-token-file"),
            ("glcbt-canary", "CI job"),
            ("gldt-canary", "deploy token"),
            ("GR1348941canary", "--legacy-registration-token-file"),
        ] {
            let failure = checked(Secret::new(bad), "it").expect_err(bad);
            assert!(failure.details[0].1.contains(why), "{failure:?}");
            assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
        }
        for good in ["glpat-x", "acme-x", "0123456789abcdef"] {
            assert!(checked(Secret::new(good), "it").is_ok());
        }
    }
}
