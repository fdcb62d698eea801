//! Validators of values from flags, environment, file, record and answers.
//!
//! Each returns the value in its canonical form, or an error that completes a sentence: "is empty".

use std::net::SocketAddrV6;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

pub use super::host::host;
use super::table::DEFAULT_RUNNER_VERSION;
use crate::base::address::{self, Parts};
use crate::base::message;
pub use crate::base::message::{is_hostile, quoted as escaped};

fn valid(ok: bool, value: String, why: &str) -> Result<String, String> {
    if ok { Ok(value) } else { Err(why.to_owned()) }
}

/// Refuses only empty text and hostile characters.
pub fn text(value: &str) -> Result<String, String> {
    if value.is_empty() {
        return Err("is empty".to_owned());
    }
    let ok = !value.chars().any(is_hostile);
    valid(ok, value.to_owned(), "contains a control, newline or invisible character")
}

/// Refuses a token instead of a file name or in a value, without repeating it: such a token is already in the
/// shell's history or in a CI job's log.
pub fn no_token(value: &str, is_path: bool) -> Result<(), String> {
    const REVOKE: &str = "it is now in the shell's history or this job's log, so revoke it in GitLab";
    if is_path && message::is_token(value) {
        return Err(format!(
            "is a token, not a file: {REVOKE}, write a new one to a file and give its path (for a file of this name: ./NAME)"
        ));
    }
    if message::holds_token(value) {
        return Err(format!("contains a token: {REVOKE}"));
    }
    Ok(())
}

fn label(value: &str, longest: usize) -> Result<String, String> {
    text(value)?;
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !value.chars().all(|c| ok(c) || c == '-') || !value.starts_with(ok) || !value.ends_with(ok) {
        return Err(
            "must be lower-case letters, digits and '-', with a letter or digit at both ends".to_owned()
        );
    }
    if value.len() > longest {
        return Err(format!("has {} characters, at most {longest} are allowed", value.len()));
    }
    if value == "default" || value.starts_with("kube-") {
        return Err("is reserved for the cluster: choose another name".to_owned());
    }
    Ok(value.to_owned())
}

/// A DNS label that is not reserved for the cluster.
pub fn namespace(value: &str) -> Result<String, String> {
    label(value, 63)
}

/// As [`namespace`], but short enough for outrigger's suffixes.
pub fn deployment(value: &str) -> Result<String, String> {
    label(value, 50)
}

/// GitLab's limit per runner: "Too many tags specified. Please limit the number of tags to 50"
/// (`app/models/ci/runner.rb`, `TAG_LIST_MAX_LENGTH`).
pub const MOST_TAGS: usize = 50;

pub fn tag(value: &str) -> Result<String, String> {
    let value = text(value)?;
    if value.contains(',') {
        return Err("contains a comma".to_owned());
    }
    if value.trim() != value {
        return Err("begins or ends with a space".to_owned());
    }
    valid(value.chars().count() <= 255, value, "has more than 255 characters")
}

pub fn image(value: &str) -> Result<String, String> {
    let value = text(value)?;
    if value.chars().any(char::is_whitespace) {
        return Err("contains white space".to_owned());
    }
    valid(!value.starts_with('-'), value, "begins with '-'")
}

/// Two to four numbers of at most nine digits.
pub fn version(value: &str) -> Result<String, String> {
    let parts: Vec<&str> = value.split('.').collect();
    let digits = |p: &&str| !p.is_empty() && p.len() <= 9 && p.bytes().all(|b| b.is_ascii_digit());
    let ok = (2..=4).contains(&parts.len()) && parts.iter().all(digits);
    valid(ok, text(value)?, "is not a version such as 19.4.1")
}

/// The word for the newest version of gitlab-runner that this version of outrigger knows.
pub const LATEST_KNOWN: &str = "latest-known";

/// A version, or the one that [`LATEST_KNOWN`] means.
pub fn version_or_latest(value: &str) -> Result<String, String> {
    if value == LATEST_KNOWN { Ok(DEFAULT_RUNNER_VERSION.to_owned()) } else { version(value) }
}

/// Whether a version is lower than another; an invalid version is lower than all.
pub fn is_older(value: &str, other: &str) -> bool {
    let parts = |value: &str| -> Option<Vec<u32>> {
        version(value).ok()?.split('.').map(|part| part.parse().ok()).collect()
    };
    parts(value) < parts(other)
}

/// A Kubernetes object's uid.
pub fn uid(value: &str) -> Result<String, String> {
    let ok = (8..=64).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    valid(ok, text(value)?, "is not a uid such as 3f1c9a52-7d0e-4b6a-9c1d-2a8e5f40b7c3")
}

/// An `OpenPGP` fingerprint in upper case; the spaces of gpg's output are removed.
pub fn fingerprint(value: &str) -> Result<String, String> {
    let value = text(value)?.replace(' ', "").to_ascii_uppercase();
    let ok = value.len() == 40 && value.bytes().all(|b| b.is_ascii_hexdigit());
    valid(ok, value, "is not a fingerprint of 40 hex digits")
}

/// In lower case.
pub fn sha256(value: &str) -> Result<String, String> {
    let ok = value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit());
    valid(ok, text(value)?.to_ascii_lowercase(), "is not a SHA-256 of 64 hex digits")
}

pub fn job_limit(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(limit @ 1..=1000) => Ok(limit),
        _ => Err("is not a number from 1 to 1000".to_owned()),
    }
}

/// The number of jobs of the whole gitlab-runner; 0 stands for the job limit.
pub fn concurrent(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(number @ 0..=10_000) => Ok(number),
        _ => Err("is not a number from 0 to 10000".to_owned()),
    }
}

/// At most an hour: pending jobs start late, and GitLab shows a runner as offline after two hours without a request.
pub fn check_interval(value: &str) -> Result<Duration, String> {
    match duration(value)? {
        long if long > Duration::from_secs(3600) => Err("is longer than 1h".to_owned()),
        fine => Ok(fine),
    }
}

/// `host:port` with an IP address, a name or nothing as the host; or `off`.
pub fn listen_address(value: &str) -> Result<String, String> {
    let value = text(value)?;
    let name = |host: &str| {
        !host.starts_with('-') && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
    };
    let ok = value == super::LISTEN_OFF
        || value.parse::<SocketAddrV6>().is_ok_and(|address| address.port() > 0 && address.scope_id() == 0)
        || value.rsplit_once(':').is_some_and(|(host, port)| {
            name(host) && port.parse().is_ok_and(|port: u16| port > 0) && !port.starts_with('+')
        });
    valid(ok, value, "is not an address such as 127.0.0.1:9252, [::1]:9252 or :9252, and not off")
}

/// The name of a bucket, container, region or storage account: what object storages accept in it.
pub fn bucket(value: &str) -> Result<String, String> {
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    valid(
        value.chars().all(ok) && value.len() <= 222,
        text(value)?,
        "contains other characters than letters, digits, '.', '-', '_'",
    )
}

/// A host with or without port.
pub fn endpoint(value: &str) -> Result<String, String> {
    let value = text(value)?;
    let with_scheme = format!("https://{value}");
    let ok = Parts::of(&with_scheme).is_ok_and(|parts| parts.userinfo.is_none() && parts.path.is_empty());
    valid(ok, value, "is not a host such as minio.example.com:9000, without https:// and path")
}

/// The URL of a proxy without user and password; or `none`.
pub fn proxy(value: &str) -> Result<String, String> {
    let value = text(value)?;
    if value == super::PROXY_NONE {
        return Ok(value);
    }
    let parts = Parts::of(&value)?;
    if parts.userinfo.is_some() {
        return Err("must not contain a user or password: --runner-proxy-credentials-file PATH".to_owned());
    }
    if !matches!(parts.path, "" | "/") {
        return Err("must not contain a path".to_owned());
    }
    match parts.scheme.as_str() {
        "http" | "https" => {}
        // apt (methods/http.cc) refuses socks5, and the upgraded connections of gitlab-runner to the cluster
        // (streaming/pkg/httpstream/spdy of client-go) refuse socks5h and socks4.
        scheme if scheme.starts_with("socks") => {
            return Err(format!(
                "is a SOCKS proxy ({value}): apt takes socks5h:// only, and gitlab-runner's connection to the \
                 cluster socks5:// only, so none serves both; give an http:// or https:// proxy"
            ));
        }
        scheme => return Err(format!("must begin with http:// or https://, not {scheme}://")),
    }
    Ok(format!("{}://{}", parts.scheme, parts.authority()))
}

/// An entry of `NO_PROXY`: a host, a domain, an address or a range of addresses.
pub fn no_proxy(value: &str) -> Result<String, String> {
    let ok = |c: char| c.is_ascii_alphanumeric() || ".-_:*/[]".contains(c);
    valid(value.chars().all(ok), text(value)?, "is not a host, domain, address or range such as 10.0.0.0/8")
}

pub fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// An https URL without trailing slash; http is accepted only on loopback.
pub fn url(value: &str) -> Result<String, String> {
    let value = text(value)?;
    if !value.is_ascii() {
        return Err("must be ASCII: write the host as xn--…".to_owned());
    }
    let parts = Parts::of(&value)?;
    if parts.path.contains(['?', '#']) {
        return Err("must not contain a query or fragment".to_owned());
    }
    if parts.userinfo.is_some() {
        return Err("must not contain a user or password".to_owned());
    }
    match parts.scheme.as_str() {
        "https" => {}
        "http" if address::is_loopback(&parts.host) => {}
        "http" => return Err("must begin with https:// (http is accepted on loopback only)".to_owned()),
        _ => return Err("must begin with https://".to_owned()),
    }
    Ok(format!("{}://{}{}", parts.scheme, parts.authority(), parts.path.trim_end_matches('/')))
}

/// The URL of a GitLab instance, by the rules of [`url`], or a host as in glab. `/api/v4` at the end is removed; a
/// relative root stays.
pub fn gitlab_url(value: &str) -> Result<String, String> {
    let value = text(value)?;
    let with_scheme = if value.contains("://") { value } else { format!("https://{value}") };
    let whole = url(&with_scheme)?;
    Ok(whole.strip_suffix("/api/v4").unwrap_or(&whole).trim_end_matches('/').to_owned())
}

/// The full path or the numeric id of a GitLab project or group.
pub fn project(value: &str) -> Result<String, String> {
    let value = text(value)?;
    if value.contains("://") {
        return Err("is a URL: give only the path, such as platform/hello".to_owned());
    }
    let part = |part: &str| {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        !part.is_empty() && part.chars().all(plain) && part != "." && part != ".."
    };
    valid(value.split('/').all(part), value, "is neither a path such as platform/hello nor a numeric id")
}

/// A git branch, by the main rules of git-check-ref-format.
pub fn branch(value: &str) -> Result<String, String> {
    let odd = |c: char| c.is_whitespace() || "~^:?*[\\".contains(c);
    let wrong = value.chars().any(odd)
        || value.starts_with(['-', '/'])
        || value.ends_with(['/', '.'])
        || value.strip_suffix(".lock").is_some()
        || ["..", "//", "@{", "/."].iter().any(|bad| value.contains(bad));
    valid(!wrong, text(value)?, "is not a valid git branch name")
}

/// `90s`, `5m`, `1h30m`, `7d` or `0`: whole seconds, at most ten years, because timers and token APIs may not accept
/// more.
pub fn duration(value: &str) -> Result<Duration, String> {
    if value == "0" {
        return Ok(Duration::ZERO);
    }
    let span = value.parse().and_then(|span: Span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    match span.map(Duration::try_from) {
        Ok(Ok(long)) if long > Duration::from_secs(315_360_000) => Err("is longer than ten years".to_owned()),
        Ok(Ok(fine)) if fine.subsec_nanos() == 0 => Ok(fine),
        _ => Err("is not a duration such as 90s, 5m, 24h or 7d".to_owned()),
    }
}

/// A duration other than 0.
pub fn positive(value: &str) -> Result<Duration, String> {
    match duration(value)? {
        Duration::ZERO => Err("must be longer than 0".to_owned()),
        fine => Ok(fine),
    }
}

/// 0, or at least 10 minutes, the minimum that clusters grant.
pub fn token_lifetime(value: &str) -> Result<Duration, String> {
    match duration(value)? {
        short if !short.is_zero() && short < Duration::from_secs(600) => {
            Err("is shorter than 10m, the minimum that a cluster grants".to_owned())
        }
        fine => Ok(fine),
    }
}

/// The shortest text for [`duration`].
pub fn duration_text(value: Duration) -> String {
    let n = value.as_secs();
    match n {
        0 => "0".to_owned(),
        _ if n.is_multiple_of(86_400) => format!("{}d", n / 86_400),
        _ if n.is_multiple_of(3600) => format!("{}h", n / 3600),
        _ if n.is_multiple_of(60) => format!("{}m", n / 60),
        _ => format!("{n}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        branch, bucket, check_interval, concurrent, deployment, duration, duration_text, endpoint, escaped,
        fingerprint, gitlab_url, image, job_limit, listen_address, namespace, no_proxy, project, proxy,
        sha256, tag, url, version,
    };

    #[test]
    fn checks_namespaces_and_deployments() {
        assert!(namespace("a").is_ok() && namespace(&"a".repeat(63)).is_ok());
        assert!(deployment(&"a".repeat(50)).is_ok() && deployment(&"a".repeat(51)).is_err());
        for bad in [
            "",
            "A",
            "-a",
            "a-",
            "a.b",
            "a_b",
            "default",
            "kube-system",
            "kube-x",
            "é",
            "a\n",
            &"a".repeat(64),
        ] {
            assert!(namespace(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn checks_urls() {
        assert_eq!(url("https://GitLab.com/").as_deref(), Ok("https://gitlab.com"));
        assert_eq!(url("https://h/sub/").as_deref(), Ok("https://h/sub"));
        for good in [
            "https://10.0.0.1:6443",
            "https://[fd00::1]:6443",
            "http://localhost:8080",
            "http://127.9.9.9",
            "http://[::1]:1",
        ] {
            assert_eq!(url(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "gitlab.com",
            "http://gitlab.com",
            "ftp://x",
            "https://",
            "https://u:p@h",
            "https://h?x",
            "https://h#x",
            "https://h:0",
            "https://h:65536",
            "https://h:x",
            "https://[::1",
            "https://[zz]",
            "https://[::1]x",
            "https://a b",
            "https://bücher.de",
            "https://h\\@evil",
            "https://-h",
            "http://localhost.evil.com",
            "https://h\u{202e}x",
        ] {
            assert!(url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn checks_gitlab_urls_projects_and_branches() {
        for (given, kept) in [
            ("gitlab.example.com", "https://gitlab.example.com"),
            ("GitLab.example.com:8443/", "https://gitlab.example.com:8443"),
            ("https://h/gitlab/", "https://h/gitlab"),
            ("https://h/gitlab/api/v4/", "https://h/gitlab"),
            ("https://h/api/v4", "https://h"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ] {
            assert_eq!(gitlab_url(given).as_deref(), Ok(kept));
        }
        for bad in ["", "http://gitlab.example.com", "https://u:p@h", "git@gitlab.com:a/b", "a b"] {
            assert!(gitlab_url(bad).is_err(), "{bad:?}");
        }
        for good in ["4711", "platform/hello", "a/b/c-d_e.f"] {
            assert_eq!(project(good).as_deref(), Ok(good));
        }
        for bad in ["", "/a", "a/", "a//b", "a/../b", "https://gitlab.com/a/b", "a b", "a%2Fb"] {
            assert!(project(bad).is_err(), "{bad:?}");
        }
        assert!(branch("feature/x").is_ok());
        for bad in ["", "-x", "a b", "a..b", "a~1", "a/", "x.lock", "a@{b"] {
            assert!(branch(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn checks_tags_images_versions_and_digests() {
        assert!(tag("a b").is_ok() && tag("a,b").is_err() && tag("a\u{1b}").is_err() && tag(" a").is_err());
        assert!(image("alpine:3").is_ok() && image("al pine").is_err() && image("--x").is_err());
        assert!(version("19.4.1").is_ok());
        for bad in ["19", "19.", "v19.4", "19.4.1; rm", ".1", "19.4.x"] {
            assert!(version(bad).is_err(), "{bad:?}");
        }
        assert_eq!(fingerprint(&"ab ".repeat(20)), Ok("AB".repeat(20)));
        assert!(fingerprint("abc").is_err() && fingerprint(&"g".repeat(40)).is_err());
        assert_eq!(sha256(&"Ab".repeat(32)), Ok("ab".repeat(32)));
        assert!(sha256("ab").is_err() && sha256(&"xy".repeat(32)).is_err());
        assert_eq!(job_limit("12"), Ok(12));
        assert!(["0", "-1", "1001", "x", ""].iter().all(|bad| job_limit(bad).is_err()));
        assert_eq!(escaped("a\u{202e}\n\""), r#""a\u{202e}\n\"""#);
    }

    #[test]
    fn checks_proxies_and_object_storage() {
        assert_eq!(proxy("HTTP://Proxy:3128/").as_deref(), Ok("http://proxy:3128"));
        assert!(proxy("none").is_ok() && proxy("https://[::1]:3129").is_ok());
        for socks in ["socks5://10.0.0.1:1080", "socks5h://proxy", "socks4://proxy", "SOCKS://proxy"] {
            let why = proxy(socks).expect_err(socks);
            assert!(why.contains(socks) && why.contains("socks5h:// only"), "{why}");
        }
        assert!(proxy("ftp://p").is_err_and(|why| why.ends_with("not ftp://")));
        for bad in ["", "proxy:3128", "ftp://p", "http://p/x", "http://a'b", "http://$x"] {
            assert!(proxy(bad).is_err(), "{bad:?}");
        }
        assert!(proxy("http://u:p@proxy").is_err_and(|why| why.contains("--runner-proxy-credentials-file")));
        assert!(["10.0.0.0/8", ".corp.example", "*", "[::1]:6443"].iter().all(|good| no_proxy(good).is_ok()));
        assert!(["", "a b", "a'b", "$x"].iter().all(|bad| no_proxy(bad).is_err()));
        assert!(endpoint("minio.example.com:9000").is_ok() && endpoint("10.0.0.1").is_ok());
        assert!(["", "https://h", "h/x", "u@h", "h:x"].iter().all(|bad| endpoint(bad).is_err()));
        assert!(bucket("my-bucket.x_1").is_ok() && bucket("a/b").is_err() && bucket("").is_err());
    }

    #[test]
    fn checks_settings_of_the_whole_runner() {
        assert_eq!((concurrent("0"), concurrent("10000")), (Ok(0), Ok(10_000)));
        assert!(["", "-1", "10001", "x"].iter().all(|bad| concurrent(bad).is_err()));
        assert_eq!(check_interval("0"), Ok(Duration::ZERO));
        assert!(
            check_interval("1h").is_ok() && check_interval("61m").is_err() && check_interval("3").is_err()
        );
        for good in ["off", "127.0.0.1:9252", "[::1]:9252", ":9252", "runner.example.com:1"] {
            assert_eq!(listen_address(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "127.0.0.1",
            "9252",
            "::1:9252",
            "[::1]",
            ":0",
            ":65536",
            ":+1",
            "a b:1",
            "$x:1",
            "[fe80::1%1]:1",
            "-a:1",
        ] {
            assert!(listen_address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reads_and_writes_durations() {
        for (text, seconds) in [
            ("90s", 90),
            ("5m", 300),
            ("24h", 86_400),
            ("7d", 604_800),
            ("1h30m", 5400),
            ("1.5h", 5400),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
            assert_eq!(
                duration(&duration_text(Duration::from_secs(seconds))),
                Ok(Duration::from_secs(seconds))
            );
        }
        for bad in ["", "5", "m", "-5m", "5m3", "5.5s", "1y", "2mo", "99999999999999999999s", "4000d", "५m"]
        {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
