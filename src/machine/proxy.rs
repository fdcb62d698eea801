//! The proxy on the machine's way out: for the script itself and for gitlab-runner's service.

use crate::base::error::{Failure, Id, Result};
use crate::base::files::Intake;
use crate::base::secret::Secret;
use crate::deployment::run::Run;
use crate::settings::{PROXY_NONE, Settings, Sourced};

const CREDENTIALS: &str = "--runner-proxy-credentials-file";

/// The variables of the settings, as lines for a shell and for systemd's `EnvironmentFile`.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Without user name and password; identifies the proxy in the script's digest.
    pub shown: String,
    /// With them; the same without a credentials file.
    pub whole: Secret,
}

impl Proxy {
    /// Whether it contains a password.
    pub fn has_password(&self) -> bool {
        self.whole.expose() != self.shown
    }

    /// Variables for these proxies. Their values contain no quote, blank or `$`.
    pub fn new(
        http: Option<&str>,
        https: Option<&str>,
        except: &[String],
        userinfo: Option<&Secret>,
    ) -> Self {
        let with = |url: &str| match (url.split_once("://"), userinfo) {
            (Some((scheme, place)), Some(userinfo)) => format!("{scheme}://{}@{place}", userinfo.expose()),
            _ => url.to_owned(),
        };
        Self {
            shown: lines(http, https, except),
            whole: Secret::new(lines(http.map(with).as_deref(), https.map(with).as_deref(), except)),
        }
    }
}

/// Both spellings: curl reads `http_proxy` in lower case alone.
fn lines(http: Option<&str>, https: Option<&str>, except: &[String]) -> String {
    let except = Some(except.join(",")).filter(|list| !list.is_empty());
    let pairs = [("HTTP_PROXY", http), ("HTTPS_PROXY", https), ("NO_PROXY", except.as_deref())];
    let lines: Vec<String> = pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .flat_map(|(name, value)| [format!("{name}='{value}'"), format!("{}='{value}'", name.to_lowercase())])
        .collect();
    lines.join("\n")
}

/// The proxies of the settings, without those that are switched off.
pub fn given(settings: &Settings) -> [Option<&Sourced<String>>; 2] {
    [&settings.runner_http_proxy, &settings.runner_https_proxy]
        .map(|url| url.as_ref().filter(|url| url.value != PROXY_NONE))
}

/// The proxy of the settings. Fails (exit 2) for an invalid credentials file.
pub async fn read(run: &Run, intake: &Intake) -> Result<Option<Proxy>> {
    let settings = &run.settings;
    let [http, https] = given(settings).map(|url| url.map(|url| url.value.as_str()));
    if http.is_none() && https.is_none() {
        for (key, flag) in
            [("runnerNoProxy", "--runner-no-proxy"), ("runnerProxyCredentialsFile", CREDENTIALS)]
        {
            if settings.sources.get(key).is_some_and(|source| !source.is_remembered()) {
                return Err(Failure::new(Id::InvalidInput, format!("{flag} is given without a proxy"))
                    .hint(format!("add --runner-https-proxy URL, or omit {flag}")));
            }
        }
        return Ok(None);
    }
    let userinfo = match &settings.runner_proxy_credentials_file {
        None => None,
        Some(path) => {
            let path = &path.value;
            let refuse = |why: &str| {
                Failure::new(Id::InvalidInput, format!("invalid {CREDENTIALS} {}", path.display()))
                    .detail("because", why)
                    .hint("give a file with one line, USER:PASSWORD, percent-encoded as in a URL")
            };
            let bytes = intake.secret(path).await?.ok_or_else(|| refuse("it does not exist"))?;
            let text = std::str::from_utf8(&bytes).map_err(|_| refuse("it is not UTF-8"))?.trim();
            if !is_userinfo(text) {
                return Err(refuse("it is not USER:PASSWORD of characters that a URL can contain"));
            }
            Some(Secret::new(text))
        }
    };
    Ok(Some(Proxy::new(http, https, &settings.runner_no_proxy, userinfo.as_ref())))
}

/// The characters of RFC 3986's `userinfo` without `'` and `$`, which a shell or systemd would interpret.
fn is_userinfo(text: &str) -> bool {
    let escapes = text
        .split('%')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()));
    escapes
        && text.contains(':')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!&()*+,;=:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::{Proxy, is_userinfo};
    use crate::base::secret::Secret;

    #[test]
    fn writes_both_spellings_and_the_password_apart() {
        let except = ["10.0.0.0/8".to_owned(), ".corp.example".to_owned()];
        let proxy = Proxy::new(None, Some("http://proxy:3128"), &except, Some(&Secret::new("me:p%40ss")));
        assert_eq!(
            proxy.shown,
            "HTTPS_PROXY='http://proxy:3128'\nhttps_proxy='http://proxy:3128'\n\
             NO_PROXY='10.0.0.0/8,.corp.example'\nno_proxy='10.0.0.0/8,.corp.example'"
        );
        assert_eq!(proxy.whole.expose(), proxy.shown.replace("http://", "http://me:p%40ss@"));
        assert!(proxy.has_password() && !Proxy::new(Some("http://p:1"), None, &[], None).has_password());
    }

    #[test]
    fn refuses_credentials_that_a_shell_would_interpret() {
        assert!(is_userinfo("me:p%40ss!") && is_userinfo("me:"));
        assert!(!is_userinfo("me:50%off") && !is_userinfo("me:%4"));
        for bad in ["me", "me:a'b", "me:$(x)", "me:a b", "me:a@b", "me:a\nb", "me:a\"b", "me:a\\b", "me:a`b"]
        {
            assert!(!is_userinfo(bad), "{bad}");
        }
    }
}
