//! A script to render, and the shells to run it with.

use std::process::{Command, Stdio};

use outrigger::internal::Secret;
use outrigger::internal::target::find;
use outrigger::internal::{
    DEFAULT_APT_URL, DEFAULT_KEY_FINGERPRINT, DEFAULT_KEY_URL, DEFAULT_RUNNER_VERSION,
};
use outrigger::internal::{Entry, GlobalSection, Installer, LaunchScript, Method, ScriptSecrets};

pub const RUNNER_TOKEN: &str = "glrt-EXAMPLE-not-a-token";
pub const BEARER_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IkVYQU1QTEUifQ.EXAMPLE.not-a-token";
pub const CA: &str =
    "-----BEGIN CERTIFICATE-----\nMIIBEXAMPLEnotACertificate+/=\n-----END CERTIFICATE-----\n";
pub const ACCOUNT: &str = "system:serviceaccount:kubernetes-runner:kubernetes-runner";

/// What Lightsail puts in front of a launch script, as far as it is known: a shell block of its own.
pub const PREAMBLE: &str = "#!/bin/sh\nlightsail_ca=/etc/ssh/lightsail_instance_ca.pub\n\
    if [ -e \"$lightsail_ca\" ]; then\n  echo \"$lightsail_ca exists\"\nfi\n";

pub const SHELLS: [&[&str]; 3] = [&["dash"], &["busybox", "sh"], &["bash"]];

pub struct Tokens {
    pub runner: Secret,
    pub bearer: Secret,
}

pub fn tokens() -> Tokens {
    Tokens { runner: Secret::new(RUNNER_TOKEN), bearer: Secret::new(BEARER_TOKEN) }
}

impl Tokens {
    pub fn both(&self) -> ScriptSecrets<'_> {
        ScriptSecrets { runner_token: &self.runner, bearer_token: &self.bearer, runner_expires: None }
    }
}

pub fn sample<'a>(tags: &'a [String], secrets: Option<ScriptSecrets<'a>>) -> LaunchScript<'a> {
    LaunchScript {
        deployment: "kubernetes-runner",
        outrigger_version: "0.1.0",
        cluster: "acme-ci",
        ca_pem: Some(CA),
        gitlab_ca_pem: None,
        account: ACCOUNT.to_owned(),
        installer: Installer {
            method: Method::Apt,
            version: DEFAULT_RUNNER_VERSION,
            apt_url: DEFAULT_APT_URL,
            key_url: DEFAULT_KEY_URL,
            key_fingerprint: DEFAULT_KEY_FINGERPRINT,
            binary_url: None,
            sha256: None,
            is_default: true,
            exact: false,
        },
        entry: Entry {
            name: "kubernetes-runner",
            url: "https://gitlab.example.com",
            job_limit: 4,
            host: "https://203.0.113.12",
            namespace: "kubernetes-runner-jobs",
            service_account: "kubernetes-runner-job",
            image: "alpine:latest",
            pull_policy: None,
            restricted: false,
            extra: None,
            cache: None,
        },
        global: GlobalSection::default(),
        proxy: None,
        tags,
        target: find("ssh").unwrap(),
        lock_metadata: false,
        replace_entry: false,
        secrets,
    }
}

/// The same, for a machine that may have other runners, or for one of its own.
pub fn for_machine<'a>(script: &LaunchScript<'a>, shared: bool) -> LaunchScript<'a> {
    LaunchScript { target: find(if shared { "ssh" } else { "lightsail" }).unwrap(), ..script.clone() }
}

/// The same with another image: the smallest change that a machine notices.
pub fn with_image<'a>(script: &LaunchScript<'a>, image: &'a str) -> LaunchScript<'a> {
    let mut script = script.clone();
    script.entry.image = image;
    script
}

/// The same, installed in another way.
pub fn by<'a>(script: &LaunchScript<'a>, method: Method, sha256: Option<&'a str>) -> LaunchScript<'a> {
    let mut script = script.clone();
    script.installer.method = method;
    script.installer.sha256 = sha256;
    script
}

pub fn text(script: &LaunchScript<'_>) -> String {
    script.render().unwrap().expose().to_owned()
}

/// Must every tool be there?
pub fn required() -> bool {
    std::env::var_os("OUTRIGGER_REQUIRE_TIERS").is_some_and(|value| value == "1")
}

pub fn present(tool: &str) -> bool {
    Command::new(tool)
        .args(["-c", "exit"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

pub fn shells() -> Vec<&'static [&'static str]> {
    SHELLS.into_iter().filter(|shell| present(shell[0])).collect()
}

/// The entries of a config.toml.
pub fn runners(config: &str) -> Vec<toml::Value> {
    let config: toml::Table = toml::from_str(config).unwrap_or_else(|error| panic!("{error}\n{config}"));
    config["runners"].as_array().unwrap().clone()
}
