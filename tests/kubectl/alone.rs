//! What kubectl has no part in: the way to GitLab, and what is said of addresses.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Failed;

use crate::cases::{Expect, case};
use crate::lab::{self, CA, Seen};

/// Runs outrigger with a good kubeconfig; `@DIR@` in arguments and variables is its directory.
fn outrigger(server: &str, arguments: &[&str], env: &[(&str, &str)]) -> Result<(String, Seen), Failed> {
    lab::start();
    let dir = tempfile::tempdir()?;
    let place = |text: &str| text.replace("@DIR@", &dir.path().display().to_string());
    fs::write(dir.path().join("config"), case("").server(server).config().to_string())?;
    fs::write(dir.path().join("ca.pem"), CA.pem())?;
    fs::write(dir.path().join("gitlab-token"), "glpat-canary-of-the-operator")?;
    let _ = lab::seen();
    let output = Command::new(Path::new(crate::common::binary::outrigger()))
        .args(arguments.iter().map(|argument| place(argument)))
        .args(["--non-interactive", "--timeout", "10s", "--request-timeout", "5s"])
        .env_clear()
        .env("HOME", dir.path())
        .env("PATH", "/usr/bin:/bin")
        .env("KUBECONFIG", dir.path().join("config"))
        .envs(env.iter().map(|(name, value)| (*name, place(value))))
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()?;
    let shown =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok((flat, lab::seen()))
}

/// Address, environment, the way to it, and what is said.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Expect, &'a str);

/// The ways to GitLab: by the same rules as to the cluster.
pub fn gitlab() -> Result<(), Failed> {
    const LOCAL: &str = "http://127.0.0.1:3128";
    let (https, plain) = ("https://api.example.com", "http://k3d.localhost:8080");
    let asked = "http proxy CONNECT api.example.com:443";
    let came = "as Bearer glpat-canary";
    let rows: [Row<'_>; 14] = [
        (https, &[], Expect::Direct(came), ""),
        (https, &[("HTTPS_PROXY", LOCAL)], Expect::Through(asked, came), ""),
        (
            https,
            &[("HTTPS_PROXY", "127.0.0.1:3128"), ("NO_PROXY", "192.0.2.7,127.0.0.1")],
            Expect::Through(asked, came),
            "",
        ),
        (https, &[("HTTPS_PROXY", LOCAL), ("NO_PROXY", " example.com , ")], Expect::Direct(came), ""),
        (https, &[("HTTPS_PROXY", LOCAL), ("NO_PROXY", "*")], Expect::Direct(came), ""),
        (https, &[("ALL_PROXY", LOCAL), ("HTTP_PROXY", LOCAL)], Expect::Direct(came), ""),
        (
            https,
            &[("HTTPS_PROXY", "http://user:pa%40ss@127.0.0.1:3128")],
            Expect::Through("http proxy CONNECT api.example.com:443 as user:pa@ss", came),
            "",
        ),
        (
            https,
            &[("HTTPS_PROXY", "https://proxy.example.com:3129")],
            Expect::Through("https proxy CONNECT api.example.com:443", came),
            "",
        ),
        (
            https,
            &[("HTTPS_PROXY", "socks5://127.0.0.1")],
            Expect::Through("socks proxy name api.example.com:443", came),
            "",
        ),
        (
            https,
            &[("HTTPS_PROXY", "socks5h://user:pass@127.0.0.1:1080")],
            Expect::Through("socks proxy name api.example.com:443 as user:pass", came),
            "",
        ),
        (
            https,
            &[("HTTPS_PROXY", "http://192.0.2.200:3128")],
            Expect::Fails,
            "https://api.example.com through the proxy http://192.0.2.200:3128 (HTTPS_PROXY)",
        ),
        (https, &[("HTTPS_PROXY", "ftp://user:canary@127.0.0.1")], Expect::Fails, "OR0350"),
        // Plain http is for this machine: a proxy would get the token in the open.
        (plain, &[("HTTP_PROXY", LOCAL)], Expect::Fails, "the token would go to the proxy unencrypted"),
        (plain, &[("HTTPS_PROXY", LOCAL)], Expect::Fails, "k3d.localhost:8080"),
    ];
    for (url, env, expected, says) in rows {
        let arguments = [
            "create-runner",
            "--dry-run",
            "--gitlab-url",
            url,
            "--gitlab-token-file",
            "@DIR@/gitlab-token",
            "--gitlab-ca-file",
            "@DIR@/ca.pem",
            "--project",
            "platform/hello",
        ];
        // The cluster is on loopback: no proxy is on the way to it.
        let (shown, mut seen) = outrigger("https://127.0.0.1:6443", &arguments, env)?;
        seen.requests.retain(|line| line.contains("glpat"));
        let what = format!("{url} {env:?}: {seen}\n{shown}");
        if !expected.fits(&seen) || matches!(expected, Expect::Fails) && !seen.proxies.is_empty() {
            return Err(format!("another way: {what}").into());
        }
        if !shown.contains(says) || shown.contains("canary") {
            return Err(format!("other words: {what}").into());
        }
    }
    Ok(())
}

/// An address that only this machine, or its network, can dial is recognised, however it is written.
pub fn addresses() -> Result<(), Failed> {
    for (server, says) in [
        ("https://127.0.0.1:6443", "https://127.0.0.1:6443 is an address of this machine"),
        ("https://127.0.0.2:6443", "https://127.0.0.2:6443 is an address of this machine"),
        ("https://[::1]:6443", "is an address of this machine"),
        ("https://localhost:6443", "is an address of this machine"),
        ("https://LOCALHOST:6443", "is an address of this machine"),
        ("https://k3d.localhost:6443", "is an address of this machine"),
        ("https://kubernetes.docker.internal:6443", "is an address of this machine"),
        ("https://0.0.0.0:6443", "is an address of this machine"),
        ("https://here.example.com:6443", "resolves here to 127.0.0.1, which is an address of this machine"),
        ("https://inside.example.com:6443", "resolves here to 10.1.2.3, which is a private address"),
        ("https://10.1.2.3:6443", "https://10.1.2.3:6443 is a private address"),
        ("https://169.254.1.1:6443", "is a link-local address"),
        ("https://192.0.2.7:6443", ""),
    ] {
        let (shown, seen) = outrigger(server, &["status"], &[])?;
        let warned = shown.contains("address of this machine")
            || shown.contains("a private address")
            || shown.contains("link-local");
        if seen.requests.is_empty() || !shown.contains(says) || warned == says.is_empty() {
            return Err(format!("{server}: {seen}\n{shown}").into());
        }
    }
    Ok(())
}
