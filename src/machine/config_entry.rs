//! The runner's `[[runners]]` entry in `config.toml`: outrigger's values and those that the user adds.
//!
//! It is written in gitlab-runner's own format (one value per line, strings in double quotes), so that outrigger
//! recognises the entry after the runner has rewritten it.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::cache::uses_identity;
use crate::base::error::{Failure, Id, Result};
use crate::base::template::toml_string;

/// The values of the entry.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The entry's `name`.
    pub name: &'a str,
    /// The GitLab URL that the runner polls.
    pub url: &'a str,
    /// The maximum number of concurrent jobs, at least 1.
    pub job_limit: u32,
    /// The API server's URL.
    pub host: &'a str,
    /// The namespace of the job pods.
    pub namespace: &'a str,
    /// The `ServiceAccount` of the job pods.
    pub service_account: &'a str,
    /// The image of jobs without an image.
    pub image: &'a str,
    /// When the node pulls images; `None` for Kubernetes' default.
    pub pull_policy: Option<&'a str>,
    /// Whether the job namespace enforces Pod Security restricted.
    pub restricted: bool,
    /// The user's additions, from [`parse`].
    pub extra: Option<&'a Table>,
    /// `[runners.cache]`, from [`super::cache::read`].
    pub cache: Option<&'a Table>,
}

/// The entry's text in three parts, between which the launch script inserts tokens and paths.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Parts {
    /// `[[runners]]` and its own values.
    pub runner: String,
    /// `[runners.kubernetes]` and its own values.
    pub kubernetes: String,
    /// The tables below; may be empty.
    pub tables: String,
}

/// Keys that outrigger writes, or that would change the runner's identity or permissions.
const OURS: &[&str] = &[
    "name",
    "url",
    "id",
    "token",
    "token_obtained_at",
    "token_expires_at",
    "executor",
    "limit",
    "tls-ca-file",
    "tls-cert-file",
    "tls-key-file",
    "kubernetes.host",
    "kubernetes.context",
    "kubernetes.bearer_token",
    "kubernetes.bearer_token_overwrite_allowed",
    "kubernetes.ca_file",
    "kubernetes.cert_file",
    "kubernetes.key_file",
    "kubernetes.namespace",
    "kubernetes.namespace_overwrite_allowed",
    "kubernetes.namespace_per_job",
    "kubernetes.service_account",
    "kubernetes.service_account_overwrite_allowed",
    "kubernetes.automount_service_account_token",
    "kubernetes.image",
    "kubernetes.pull_policy",
];

/// The limit of concurrent job requests: more would only load GitLab.
const REQUESTS: u32 = 4;

/// The user and group of containers where Pod Security restricted forbids root: an id that no distribution uses.
const UNPRIVILEGED: i64 = 59_417;

/// The case-folded key, by which gitlab-runner compares: its TOML library (`BurntSushi/toml`, with Go's
/// `strings.EqualFold`) ignores case, and uses a random one of two spellings.
fn folded(key: &str) -> String {
    // The long s and the kelvin sign are the two characters that Unicode folds to an ASCII letter.
    key.replace('\u{17f}', "s").replace('\u{212a}', "k").to_lowercase()
}

/// Folds the keys of a table. The tables below it stay unchanged, because some are maps with the user's own keys,
/// such as `node_selector`.
fn with_folded_keys(table: Table, path: &str) -> std::result::Result<Table, String> {
    let mut spelled: Vec<(String, String)> = Vec::new();
    let mut folded_table = Table::new();
    for (name, value) in table {
        let key = folded(&name);
        if let Some((_, other)) = spelled.iter().find(|(known, _)| *known == key) {
            return Err(format!("{path}{other} and {path}{name} are the same key for gitlab-runner"));
        }
        spelled.push((key.clone(), name));
        folded_table.insert(key, value);
    }
    Ok(folded_table)
}

/// Parses a file of `--runner-config`: TOML with one `[[runners]]`. Case is ignored; the keys of `[[runners]]` and
/// `[runners.kubernetes]` are returned in lower case. Fails with OR0712, also for settings that the Pod Security
/// level of the job namespace forbids, because the cluster would reject every job's pod.
pub fn parse(text: &str, level: &str) -> Result<Table> {
    let refuse = |why: String, hint: &str| {
        Failure::new(Id::RunnerConfig, "invalid --runner-config file").detail("because", why).hint(hint)
    };
    let shape =
        "use one [[runners]] with the keys to add, for example node_selector below [runners.kubernetes]";
    let once = "write it once, in lower case";
    let with_folded_keys = |table, path| with_folded_keys(table, path).map_err(|why| refuse(why, once));
    let whole: Table = text
        .parse()
        .map_err(|error: toml::de::Error| refuse(format!("it is not TOML: {}", error.message()), shape))?;
    let mut whole = with_folded_keys(whole, "")?;
    let runners = whole.remove("runners");
    if let Some(key) = whole.keys().next() {
        return Err(refuse(format!("unknown key {key:?} outside [[runners]]"), shape));
    }
    let Some(Value::Array(mut runners)) = runners else {
        return Err(refuse("it has no [[runners]]".to_owned(), shape));
    };
    let (Some(Value::Table(extra)), true) = (runners.pop(), runners.is_empty()) else {
        return Err(refuse("it must have exactly one [[runners]]".to_owned(), shape));
    };
    let mut extra = with_folded_keys(extra, "runners.")?;
    match extra.remove("kubernetes") {
        None => {}
        Some(Value::Table(kubernetes)) => {
            let kubernetes = with_folded_keys(kubernetes, "runners.kubernetes.")?;
            extra.insert("kubernetes".to_owned(), kubernetes.into());
        }
        Some(_) => return Err(refuse("runners.kubernetes is not a table".to_owned(), shape)),
    }
    for key in OURS.iter().chain(if level == "restricted" { RESTRICTED } else { &[] }) {
        let found = match key.split_once('.') {
            None => extra.contains_key(*key),
            Some((table, key)) => {
                extra.get(table).and_then(Value::as_table).is_some_and(|table| table.contains_key(key))
            }
        };
        if found {
            return Err(refuse(
                format!("runners.{key} is set by outrigger"),
                "remove the key, in upper and lower case; use a flag instead if there is one (--image, --pull-policy, --job-limit, --namespace, --pod-security)",
            ));
        }
    }
    if let Some(what) = excluded(&extra, level) {
        let why = format!("Pod Security {level} forbids runners.kubernetes.{what}");
        let hint = if level == "restricted" {
            "remove it, or use a level that allows it: --pod-security baseline, or privileged"
        } else {
            "remove it, or use the level that allows it: --pod-security privileged"
        };
        return Err(refuse(why, hint));
    }
    Ok(extra)
}

/// The paths of all keys that the user adds, for the plan, which does not show values because some are secrets.
pub fn added(extra: &Table) -> Vec<String> {
    fn walk(table: &Table, path: &str, found: &mut Vec<String>) {
        for (name, value) in table {
            let path = format!("{path}.{}", key(name));
            match value {
                Value::Table(inner) if !inner.is_empty() => walk(inner, &path, found),
                Value::Array(items) if is_table(value) => {
                    for inner in items.iter().filter_map(Value::as_table) {
                        walk(inner, &path, found);
                    }
                }
                _ => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(extra, "runners", &mut found);
    found.sort();
    found.dedup();
    found
}

/// The capabilities that Pod Security baseline allows to add
/// (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).
const BASELINE_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The `SELinux` types that baseline allows.
const BASELINE_SELINUX: &[&str] =
    &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// The values of a key in any case.
fn fields<'a>(table: &'a Table, wanted: &'a str) -> impl Iterator<Item = &'a Value> {
    table.iter().filter(move |(name, _)| folded(name) == wanted).map(|(_, value)| value)
}

/// Whether a value is forbidden.
type Forbidden<'a> = &'a dyn Fn(&Value) -> bool;

/// The first of the user's keys that a Pod Security level forbids. Patches of the pod (`pod_spec`) are not checked;
/// under baseline, the cluster checks the pod.
fn excluded(extra: &Table, level: &str) -> Option<String> {
    if level == "privileged" {
        return None;
    }
    let restricted = level == "restricted";
    let kubernetes = extra.get("kubernetes")?.as_table()?;
    if kubernetes.get("privileged").is_some_and(|value| *value == Value::Boolean(true)) {
        return Some("privileged".to_owned());
    }
    // Annotations can select AppArmor and seccomp profiles.
    let annotations = kubernetes.get("pod_annotations_overwrite_allowed").and_then(Value::as_str);
    if annotations.is_some_and(|pattern| !pattern.is_empty()) {
        return Some("pod_annotations_overwrite_allowed".to_owned());
    }
    let bad_capability = |list: &Value| {
        let may = |one: &Value| {
            one.as_str().is_some_and(|one| {
                if restricted { one == "NET_BIND_SERVICE" } else { BASELINE_CAPABILITIES.contains(&one) }
            })
        };
        list.as_array().is_none_or(|list| !list.iter().all(may))
    };
    if kubernetes.get("cap_add").is_some_and(bad_capability) {
        return Some("cap_add".to_owned());
    }
    if let Some(volumes) = kubernetes.get("volumes").and_then(Value::as_table) {
        for kind in ["host_path", "nfs"] {
            let any = fields(volumes, kind).any(|list| list.as_array().is_none_or(|list| !list.is_empty()));
            if any && (kind == "host_path" || restricted) {
                return Some(format!("volumes.{kind}"));
            }
        }
    }
    for name in [
        "build_container_security_context",
        "helper_container_security_context",
        "service_container_security_context",
        "init_permissions_container_security_context",
        "pod_security_context",
    ] {
        let Some(context) = kubernetes.get(name).and_then(Value::as_table) else { continue };
        let unconfined = |profile: &Value| {
            let kinds = |profile: &Table| {
                fields(profile, "type").any(|kind| kind.as_str().is_none_or(|kind| kind == "Unconfined"))
            };
            profile.as_table().is_none_or(kinds)
        };
        let is_not =
            |value: &Value, allowed: &[&str]| value.as_str().is_none_or(|text| !allowed.contains(&text));
        let adds =
            |value: &Value| value.as_table().is_none_or(|value| fields(value, "add").any(bad_capability));
        // The key, whether the level forbids some of its values, and which ones.
        let rules: [(&str, bool, Forbidden<'_>); 9] = [
            ("privileged", true, &|value| *value == Value::Boolean(true)),
            ("capabilities.add", true, &adds),
            ("proc_mount", true, &|value| is_not(value, &["", "Default"])),
            ("seccomp_profile", true, &unconfined),
            ("app_armor_profile", true, &unconfined),
            ("selinux_type", true, &|value| is_not(value, BASELINE_SELINUX)),
            ("allow_privilege_escalation", restricted, &|value| *value != Value::Boolean(false)),
            ("run_as_non_root", restricted, &|value| *value != Value::Boolean(true)),
            ("run_as_user", restricted, &|value| *value == Value::Integer(0)),
        ];
        for (key, applies, forbidden) in rules {
            let field = key.split('.').next().unwrap_or(key);
            if applies && fields(context, field).any(forbidden) {
                return Some(format!("{name}.{key}"));
            }
        }
    }
    None
}

/// Keys that outrigger sets under Pod Security restricted.
const RESTRICTED: &[&str] = &[
    "kubernetes.privileged",
    "kubernetes.allow_privilege_escalation",
    "kubernetes.cap_drop",
    "kubernetes.cap_add",
    "kubernetes.pod_security_context",
    "kubernetes.init_permissions_container_security_context",
    "kubernetes.pod_spec",
];

fn table<const N: usize>(pairs: [(&str, Value); N]) -> Table {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

impl Entry<'_> {
    /// Whether a cache, of the settings or of `--runner-config`, uses the machine's identity.
    pub(super) fn uses_identity(&self) -> bool {
        let added = self.extra.and_then(|extra| extra.get("cache")).and_then(Value::as_table);
        self.cache.or(added).is_some_and(uses_identity)
    }

    /// The text, without tokens and paths.
    pub fn parts(&self) -> Parts {
        let mut extra = self.extra.cloned().unwrap_or_default();
        if let Some(cache) = self.cache {
            extra.insert("cache".to_owned(), cache.clone().into());
        }
        let kubernetes = match extra.remove("kubernetes") {
            Some(Value::Table(table)) => table,
            _ => Table::new(),
        };
        let mut runner = table([
            ("name", self.name.into()),
            ("url", self.url.into()),
            ("executor", "kubernetes".into()),
            ("limit", self.job_limit.into()),
        ]);
        // With one request at a time, a long poll delays the other jobs; the runner warns of this.
        if self.job_limit > 1 && !extra.contains_key("request_concurrency") {
            runner.insert("request_concurrency".to_owned(), self.job_limit.min(REQUESTS).into());
        }
        let mut ours = table([
            ("host", self.host.into()),
            ("namespace", self.namespace.into()),
            ("service_account", self.service_account.into()),
            ("automount_service_account_token", false.into()),
            ("image", self.image.into()),
        ]);
        if let Some(policy) = self.pull_policy {
            ours.insert("pull_policy".to_owned(), policy.into());
        }
        if !kubernetes.contains_key("privileged") {
            ours.insert("privileged".to_owned(), false.into());
        }
        if self.restricted {
            Self::restrict(&mut extra, &mut ours);
        }
        let mut parts = Parts {
            runner: "[[runners]]\n".to_owned(),
            kubernetes: "  [runners.kubernetes]\n".to_owned(),
            tables: String::new(),
        };
        // outrigger's values come first, for the review of the entry.
        for table in [&runner, &extra] {
            values(&mut parts.runner, table, 1);
        }
        for table in [&ours, &kubernetes] {
            values(&mut parts.kubernetes, table, 2);
            tables(&mut parts.tables, table, "runners.kubernetes", 2);
        }
        tables(&mut parts.tables, &extra, "runners", 1);
        parts
    }

    /// Adds the settings that Pod Security restricted requires of every container. The seccomp profile is a patch of
    /// the pod, because only recent runners have a setting for it.
    fn restrict(extra: &mut Table, ours: &mut Table) {
        let drop = || Value::from(vec!["ALL"]);
        let user = table([
            ("run_as_non_root", true.into()),
            ("run_as_user", UNPRIVILEGED.into()),
            ("run_as_group", UNPRIVILEGED.into()),
        ]);
        let mut pod = user.clone();
        pod.insert("fs_group".to_owned(), UNPRIVILEGED.into());
        let mut init = user;
        init.insert("allow_privilege_escalation".to_owned(), false.into());
        init.insert("capabilities".to_owned(), table([("drop", drop())]).into());
        let patch = table([
            ("name", "seccomp".into()),
            ("patch_type", "strategic".into()),
            ("patch", r#"{"securityContext":{"seccompProfile":{"type":"RuntimeDefault"}}}"#.into()),
        ]);
        ours.extend(table([
            ("allow_privilege_escalation", false.into()),
            ("cap_drop", drop()),
            ("pod_security_context", pod.into()),
            ("init_permissions_container_security_context", init.into()),
            ("pod_spec", vec![patch].into()),
        ]));
        let mut given = match extra.remove("environment") {
            Some(Value::Array(given)) => given,
            _ => Vec::new(),
        };
        // Images do not define the user, whose home would be /. There git cannot write its configuration, which the
        // runner requires for a GitLab with its own CA: such jobs failed.
        let is_home = |one: &Value| one.as_str().is_some_and(|one| one.starts_with("HOME="));
        if !given.iter().any(is_home) {
            given.push("HOME=/tmp".into());
        }
        given.push("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION=true".into());
        extra.insert("environment".to_owned(), given.into());
    }
}

fn is_table(value: &Value) -> bool {
    match value {
        Value::Table(_) => true,
        Value::Array(items) => !items.is_empty() && items.iter().all(Value::is_table),
        _ => false,
    }
}

/// Writes the table's own values, one per line.
fn values(out: &mut String, table: &Table, depth: usize) {
    for (name, value) in table.iter().filter(|(_, value)| !is_table(value)) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:width$}{} = {}", "", key(name), inline(value), width = depth * 2);
    }
}

/// Writes the tables below it with their values.
fn tables(out: &mut String, table: &Table, path: &str, depth: usize) {
    for (name, value) in table {
        let path = format!("{path}.{}", key(name));
        let (header, all): (_, Vec<_>) = match value {
            Value::Table(inner) => (format!("[{path}]"), vec![inner]),
            Value::Array(items) if is_table(value) => {
                (format!("[[{path}]]"), items.iter().filter_map(Value::as_table).collect())
            }
            _ => continue,
        };
        for inner in all {
            let _ = writeln!(out, "{:width$}{header}", "", width = depth * 2);
            values(out, inner, depth + 1);
            tables(out, inner, &path, depth + 1);
        }
    }
}

fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { toml_string(name) }
}

fn inline(value: &Value) -> String {
    let joined = |items: Vec<String>, open: &str, close: &str| format!("{open}{}{close}", items.join(", "));
    match value {
        Value::String(text) => toml_string(text),
        Value::Integer(number) => number.to_string(),
        // TOML requires a point or an exponent.
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(items) => joined(items.iter().map(inline).collect(), "[", "]"),
        Value::Table(table) => joined(
            table.iter().map(|(name, value)| format!("{} = {}", key(name), inline(value))).collect(),
            "{ ",
            " }",
        ),
    }
}

#[cfg(test)]
mod tests {
    use crate::base::error::Id;
    use toml::Table;

    use super::{Entry, added, parse};

    fn entry(extra: &Table, restricted: bool) -> Entry<'_> {
        Entry {
            name: "web \"x\"",
            url: "https://gitlab.example.com",
            job_limit: 4,
            host: "https://203.0.113.12",
            namespace: "jobs",
            service_account: "job",
            image: "alpine:latest",
            pull_policy: Some("if-not-present"),
            restricted,
            extra: Some(extra),
            cache: None,
        }
    }

    fn whole(entry: &Entry<'_>) -> Table {
        let parts = entry.parts();
        let text = format!("{}{}{}", parts.runner, parts.kubernetes, parts.tables);
        let table: Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
        table["runners"][0].as_table().cloned().unwrap_or_default()
    }

    #[test]
    fn the_entry_contains_the_users_additions() {
        let text = "[[runners]]\nenvironment = [\"A=\\\"b\\n\"]\n[runners.cache]\nType = \"s3\"\n[runners.cache.s3]\nServerAddress = \"s3\"\n\
            [runners.kubernetes]\ncpu_limit = \"1\"\npoll_timeout = 600\nprivileged = true\n[runners.kubernetes.node_selector]\n\"kubernetes.io/os\" = \"linux\"\n\
            [[runners.kubernetes.volumes.empty_dir]]\nname = \"a\"\nmount_path = \"/a\"\n[[runners.kubernetes.volumes.empty_dir]]\nname = \"b\"\nmount_path = \"/b\"\n";
        let extra = parse(text, "privileged").expect("this is allowed");
        let given: Table = text.parse().expect("this is TOML");
        let made = whole(&entry(&extra, false));
        assert_eq!(made["name"].as_str(), Some("web \"x\""));
        assert_eq!(made["kubernetes"]["image"].as_str(), Some("alpine:latest"));
        assert_eq!(made["kubernetes"]["automount_service_account_token"].as_bool(), Some(false));
        for (key, value) in given["runners"][0].as_table().expect("an entry") {
            if key != "kubernetes" {
                assert_eq!(made.get(key), Some(value), "{key}");
            }
        }
        for (key, value) in given["runners"][0]["kubernetes"].as_table().expect("a table") {
            assert_eq!(made["kubernetes"].get(key), Some(value), "{key}");
        }
    }

    #[test]
    fn the_documented_proxy_for_jobs_is_accepted() {
        let page = include_str!("../../docs/network.md");
        let text =
            page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let made = whole(&entry(&parse(text, "restricted").expect("this is allowed"), false));
        let environment = made["environment"].as_array().expect("a list");
        assert!(
            environment.iter().any(|one| one.as_str().is_some_and(|one| one.starts_with("https_proxy=")))
        );
    }

    #[test]
    fn the_entry_for_a_restricted_namespace_meets_its_requirements() {
        let extra = parse("[[runners]]\nenvironment = [\"A=b\"]\n", "restricted").expect("this is allowed");
        let made = whole(&entry(&extra, true));
        let kubernetes = &made["kubernetes"];
        let environment = made["environment"].as_array().expect("a list");
        let said: Vec<_> = environment.iter().filter_map(|one| one.as_str()).collect();
        assert!(said.contains(&"A=b") && said.contains(&"HOME=/tmp"), "{said:?}");
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(kubernetes["allow_privilege_escalation"].as_bool(), Some(false));
        assert_eq!(kubernetes["cap_drop"][0].as_str(), Some("ALL"));
        assert_eq!(kubernetes["pod_security_context"]["run_as_non_root"].as_bool(), Some(true));
        let init = &kubernetes["init_permissions_container_security_context"];
        assert_eq!(init["capabilities"]["drop"][0].as_str(), Some("ALL"));
        assert!(
            kubernetes["pod_spec"][0]["patch"].as_str().is_some_and(|patch| patch.contains("RuntimeDefault"))
        );
    }

    #[test]
    fn what_is_ours_or_no_runner_is_refused() {
        for (text, named) in [
            ("x = [", "not TOML"),
            ("concurrent = 9\n[[runners]]\n", "concurrent"),
            ("", "no [[runners]]"),
            ("[[runners]]\n[[runners]]\n", "exactly one"),
            ("[[runners]]\ntoken = \"x\"\n", "runners.token"),
            ("[[runners]]\n[runners.kubernetes]\nbearer_token = \"x\"\n", "runners.kubernetes.bearer_token"),
            ("[[runners]]\nkubernetes = 1\n", "not a table"),
            // gitlab-runner ignores case, and folds some Unicode characters to ASCII letters.
            ("[[runners]]\nToken = \"x\"\n", "runners.token is set by outrigger"),
            ("[[runners]]\nURL = \"x\"\n", "runners.url is set by outrigger"),
            ("[[Runners]]\nExecutor = \"shell\"\n", "runners.executor is set by outrigger"),
            ("[[runners]]\nto\\u212aen = 1\n", "not TOML"),
            ("[[runners]]\n\"to\\u212aen\" = 1\n", "runners.token is set by outrigger"),
            ("[[runners]]\n\"tl\\u017f-ca-file\" = 1\n", "runners.tls-ca-file is set by outrigger"),
            (
                "[[runners]]\n[runners.Kubernetes]\nHost = \"x\"\n",
                "runners.kubernetes.host is set by outrigger",
            ),
            (
                "[[runners]]\n[runners.kubernetes]\nBearer_Token = \"x\"\n",
                "runners.kubernetes.bearer_token is",
            ),
            (
                "[[runners]]\n[runners.kubernetes]\nImage = \"x\"\n",
                "runners.kubernetes.image is set by outrigger",
            ),
            (
                "[[runners]]\n[runners.kubernetes]\n[runners.Kubernetes]\n",
                "runners.kubernetes are the same key",
            ),
            (
                "[[runners]]\n[runners.kubernetes]\nprivileged = false\nPrivileged = true\n",
                "are the same key for gitlab-runner",
            ),
            (
                "[[runners]]\n[runners.kubernetes]\nNamespace_Overwrite_Allowed = \".*\"\n",
                "runners.kubernetes.namespace_overwrite_allowed is set by outrigger",
            ),
            (
                "[[runners]]\n[runners.kubernetes]\nservice_account_overwrite_allowed = \".*\"\n",
                "runners.kubernetes.service_account_overwrite_allowed is set by outrigger",
            ),
            ("[[runners]]\n[[Runners]]\n", "are the same key for gitlab-runner"),
            ("Concurrent = 9\n[[runners]]\n", "unknown key \"concurrent\""),
        ] {
            let failure = parse(text, "privileged").expect_err(text);
            assert!(failure.details[0].1.contains(named), "{text}: {:?}", failure.details);
        }
        for key in ["privileged", "Privileged", "ALLOW_PRIVILEGE_ESCALATION", "Cap_Add", "pod_\u{17f}pec"] {
            for table in ["kubernetes", "Kubernetes"] {
                let text = format!("[[runners]]\n[runners.{table}]\n{key:?} = true\n");
                assert!(parse(&text, "privileged").is_ok() && parse(&text, "restricted").is_err(), "{text}");
            }
        }
    }

    #[test]
    fn what_pod_security_excludes_is_refused() {
        let level = |text: &str| {
            let text = format!("[[runners]]\n[runners.Kubernetes]\n{text}\n");
            let taken = |level| match parse(&text, level) {
                Ok(_) => true,
                Err(failure) => {
                    assert_eq!(failure.id, Id::RunnerConfig);
                    false
                }
            };
            ["privileged", "baseline", "restricted"].into_iter().filter(|level| taken(level)).count()
        };
        // The number of levels that allow it, from the least restrictive one.
        for (text, taken) in [
            ("privileged = true", 1),
            ("Privileged = true", 1),
            ("privileged = false", 2),
            ("cpu_limit = \"1\"", 3),
            ("node_selector_overwrite_allowed = \".*\"", 3),
            ("pod_labels_overwrite_allowed = \".*\"", 3),
            ("pod_annotations_overwrite_allowed = \".*\"", 1),
            ("pod_annotations_overwrite_allowed = \"\"", 3),
            ("cap_add = [\"CHOWN\"]", 2),
            ("cap_add = [\"SYS_ADMIN\"]", 1),
            ("cap_add = [\"ALL\"]", 1),
            ("[runners.Kubernetes.Volumes]\n[[runners.Kubernetes.Volumes.Host_Path]]\nname = \"a\"", 1),
            ("[[runners.Kubernetes.volumes.host_path]]\nname = \"a\"", 1),
            ("[[runners.Kubernetes.volumes.nfs]]\nname = \"a\"", 2),
            ("[[runners.Kubernetes.volumes.empty_dir]]\nname = \"a\"", 3),
            ("[[runners.Kubernetes.volumes.csi]]\nname = \"a\"", 3),
            ("[runners.Kubernetes.build_container_security_context]\nPrivileged = true", 1),
            ("[runners.Kubernetes.Service_Container_Security_Context]\nprivileged = true", 1),
            ("[runners.Kubernetes.build_container_security_context]\nproc_mount = \"Unmasked\"", 1),
            ("[runners.Kubernetes.build_container_security_context]\nselinux_type = \"spc_t\"", 1),
            (
                "[runners.Kubernetes.helper_container_security_context.seccomp_profile]\ntype = \"Unconfined\"",
                1,
            ),
            (
                "[runners.Kubernetes.helper_container_security_context.Seccomp_Profile]\nType = \"RuntimeDefault\"",
                3,
            ),
            ("[runners.Kubernetes.build_container_security_context.capabilities]\nadd = [\"NET_ADMIN\"]", 1),
            ("[runners.Kubernetes.build_container_security_context.capabilities]\nadd = [\"SETUID\"]", 2),
            ("[runners.Kubernetes.build_container_security_context]\nrun_as_user = 0", 2),
            ("[runners.Kubernetes.build_container_security_context]\nrun_as_user = 1000", 3),
            ("[runners.Kubernetes.pod_security_context.app_armor_profile]\ntype = \"Unconfined\"", 1),
            ("[runners.Kubernetes.pod_security_context]\nfs_group = 1", 2),
        ] {
            assert_eq!(level(text), taken, "{text}");
        }
    }

    #[test]
    fn lists_the_added_keys_without_their_values() {
        let text = "[[runners]]\nenvironment = [\"SECRET=x\"]\n[runners.cache.s3]\nSecretKey = \"x\"\n[runners.kubernetes]\ncpu_limit = \"1\"\n\
            [runners.kubernetes.node_selector]\n\"kubernetes.io/os\" = \"linux\"\n\
            [[runners.kubernetes.volumes.empty_dir]]\nname = \"a\"\n[[runners.kubernetes.volumes.empty_dir]]\nname = \"b\"\n";
        let keys = added(&parse(text, "baseline").expect("this is allowed"));
        assert_eq!(
            keys,
            [
                "runners.cache.s3.SecretKey",
                "runners.environment",
                "runners.kubernetes.cpu_limit",
                "runners.kubernetes.node_selector.\"kubernetes.io/os\"",
                "runners.kubernetes.volumes.empty_dir.name",
            ]
        );
    }

    #[test]
    fn keys_in_another_case_are_taken_as_the_runner_takes_them() {
        let text = "[[runners]]\nEnvironment = [\"A=b\"]\n[runners.Kubernetes]\nPrivileged = true\n\
            [runners.Kubernetes.node_selector]\nDisk = \"ssd\"\ndisk = \"hdd\"\n";
        let made = whole(&entry(&parse(text, "privileged").expect("this is allowed"), false));
        assert_eq!(made["kubernetes"]["privileged"].as_bool(), Some(true));
        let parts = entry(&parse(text, "privileged").expect("this is allowed"), false).parts();
        assert!(!parts.kubernetes.contains("privileged = false"), "{}", parts.kubernetes);
        assert_eq!(made["kubernetes"]["node_selector"]["Disk"].as_str(), Some("ssd"));
        assert_eq!(made["kubernetes"]["node_selector"]["disk"].as_str(), Some("hdd"));
        let text = "[[runners]]\nEnvironment = [\"A=b\"]\n";
        let made = whole(&entry(&parse(text, "restricted").expect("this is allowed"), true));
        assert_eq!(made["environment"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn concurrent_jobs_use_concurrent_requests() {
        let none = Table::new();
        let asks = |limit, extra: &Table| {
            let made = whole(&Entry { job_limit: limit, ..entry(extra, false) });
            made.get("request_concurrency").and_then(toml::Value::as_integer)
        };
        assert_eq!(
            [1, 2, 4, 5, 100].map(|limit| asks(limit, &none)),
            [None, Some(2), Some(4), Some(4), Some(4)]
        );
        let own = parse("[[runners]]\nRequest_Concurrency = 7\n", "baseline").expect("this is allowed");
        assert_eq!(asks(9, &own), Some(7));
    }
}
