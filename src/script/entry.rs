//! The runner's `[[runners]]` entry in `config.toml`: what outrigger decides, and what the user adds.
//!
//! It is written the way gitlab-runner itself writes the file (one value a line, strings in double
//! quotes), so that an entry is still recognised after the runner has rewritten it.

use std::fmt::Write as _;

use toml::{Table, Value};

use crate::error::{Failure, Kind, Result};
use crate::template::toml_string;

/// What outrigger puts into the entry.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The entry's `name`.
    pub name: &'a str,
    /// The GitLab URL that the runner polls.
    pub url: &'a str,
    /// How many jobs run at once, at least 1.
    pub job_limit: u32,
    /// The API server's URL.
    pub host: &'a str,
    /// The namespace of the job pods.
    pub namespace: &'a str,
    /// The `ServiceAccount` of the job pods.
    pub service_account: &'a str,
    /// The image of jobs that name none.
    pub image: &'a str,
    /// When the node pulls images; `None` leaves it to Kubernetes.
    pub pull_policy: Option<&'a str>,
    /// Whether the job namespace enforces Pod Security restricted.
    pub restricted: bool,
    /// What the user adds, from [`parse`].
    pub extra: Option<&'a Table>,
}

/// The entry's text, in the three parts between which the machine puts what only it knows: tokens and
/// paths.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Parts {
    /// `[[runners]]` and its own values.
    pub runner: String,
    /// `[runners.kubernetes]` and its own values.
    pub kubernetes: String,
    /// The tables below; may be empty.
    pub tables: String,
}

/// Keys that outrigger writes, or that would change who the runner is or what it may reach.
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
    "kubernetes.namespace_per_job",
    "kubernetes.service_account",
    "kubernetes.automount_service_account_token",
    "kubernetes.image",
    "kubernetes.pull_policy",
];

/// The most requests for jobs at once: more would only load GitLab.
const REQUESTS: u32 = 4;

/// The user and group of containers where Pod Security restricted forbids root: none that a
/// distribution uses.
const UNPRIVILEGED: u32 = 59_417;

/// A key as gitlab-runner compares it: its TOML library (`BurntSushi/toml`, by Go's `strings.EqualFold`)
/// does not regard case, and of two spellings of a key it takes one at random.
fn folded(key: &str) -> String {
    // The two letters that only Unicode folds onto one of ASCII: the long s and the sign for kelvin.
    key.replace('\u{17f}', "s").replace('\u{212a}', "k").to_lowercase()
}

/// The table with its own keys as gitlab-runner compares them. Tables below keep theirs: some are maps of
/// the user's own keys, such as `node_selector`.
fn with_folded_keys(table: Table, path: &str) -> std::result::Result<Table, String> {
    let mut spelled: Vec<(String, String)> = Vec::new();
    let mut folded_table = Table::new();
    for (name, value) in table {
        let key = folded(&name);
        if let Some((_, other)) = spelled.iter().find(|(known, _)| *known == key) {
            return Err(format!("{path}{other} and {path}{name} are one key for gitlab-runner"));
        }
        spelled.push((key.clone(), name));
        folded_table.insert(key, value);
    }
    Ok(folded_table)
}

/// Reads a file of `--runner-config`: TOML with one `[[runners]]`, holding what is to be added. Keys are
/// compared without regard to case, and come back in lower case, those of `[runners.kubernetes]`, too.
///
/// # Errors
/// OR0712, naming the key or the line.
pub fn parse(text: &str, restricted: bool) -> Result<Table> {
    let refuse = |why: String, hint: &str| {
        Err(Failure::new("OR0712", Kind::Refused, "the file of --runner-config cannot be used")
            .detail("because", why)
            .hint(hint.to_owned()))
    };
    let shape = "give it one [[runners]] with what is to be added, for example node_selector below [runners.kubernetes]";
    let once = "write it once, in lower case";
    let whole: Table = match text.parse() {
        Ok(whole) => whole,
        Err(error) => return refuse(format!("it is not TOML: {}", error.message()), shape),
    };
    let mut whole = match with_folded_keys(whole, "") {
        Ok(whole) => whole,
        Err(why) => return refuse(why, once),
    };
    let runners = whole.remove("runners");
    if let Some(key) = whole.keys().next() {
        return refuse(format!("{key:?} is no part of a runner"), shape);
    }
    let Some(Value::Array(mut runners)) = runners else {
        return refuse("it has no [[runners]]".to_owned(), shape);
    };
    let (Some(Value::Table(extra)), true) = (runners.pop(), runners.is_empty()) else {
        return refuse("it has more than one [[runners]], or none".to_owned(), shape);
    };
    let mut extra = match with_folded_keys(extra, "runners.") {
        Ok(extra) => extra,
        Err(why) => return refuse(why, once),
    };
    match extra.remove("kubernetes") {
        None => {}
        Some(Value::Table(kubernetes)) => match with_folded_keys(kubernetes, "runners.kubernetes.") {
            Ok(kubernetes) => {
                extra.insert("kubernetes".to_owned(), Value::Table(kubernetes));
            }
            Err(why) => return refuse(why, once),
        },
        Some(_) => return refuse("runners.kubernetes is not a table".to_owned(), shape),
    }
    for key in OURS.iter().chain(if restricted { RESTRICTED } else { &[] }) {
        let found = match key.split_once('.') {
            None => extra.contains_key(*key),
            Some((table, key)) => {
                extra.get(table).and_then(Value::as_table).is_some_and(|table| table.contains_key(key))
            }
        };
        if found {
            return refuse(
                format!("runners.{key} is outrigger's to set"),
                "leave it out, also in another case; where there is a flag for it (--image, --pull-policy, --job-limit, --namespace, --pod-security), use that",
            );
        }
    }
    Ok(extra)
}

/// What Pod Security restricted settles.
const RESTRICTED: &[&str] = &[
    "kubernetes.privileged",
    "kubernetes.allow_privilege_escalation",
    "kubernetes.cap_drop",
    "kubernetes.cap_add",
    "kubernetes.pod_security_context",
    "kubernetes.init_permissions_container_security_context",
    "kubernetes.pod_spec",
];

impl Entry<'_> {
    /// The text, without tokens and paths.
    #[must_use]
    pub fn parts(&self) -> Parts {
        let mut extra = self.extra.cloned().unwrap_or_default();
        let mut kubernetes = match extra.remove("kubernetes") {
            Some(Value::Table(table)) => table,
            _ => Table::new(),
        };
        let mut runner = Table::new();
        let text = |value: &str| Value::String(value.to_owned());
        runner.insert("name".to_owned(), text(self.name));
        runner.insert("url".to_owned(), text(self.url));
        runner.insert("executor".to_owned(), text("kubernetes"));
        runner.insert("limit".to_owned(), Value::Integer(self.job_limit.into()));
        // With one request at a time, one long poll keeps the other jobs waiting; the runner warns of that.
        if self.job_limit > 1 && !extra.contains_key("request_concurrency") {
            let requests = self.job_limit.min(REQUESTS).into();
            runner.insert("request_concurrency".to_owned(), Value::Integer(requests));
        }
        let mut ours = Table::new();
        ours.insert("host".to_owned(), text(self.host));
        ours.insert("namespace".to_owned(), text(self.namespace));
        ours.insert("service_account".to_owned(), text(self.service_account));
        ours.insert("automount_service_account_token".to_owned(), Value::Boolean(false));
        ours.insert("image".to_owned(), text(self.image));
        if let Some(policy) = self.pull_policy {
            ours.insert("pull_policy".to_owned(), text(policy));
        }
        if !kubernetes.contains_key("privileged") {
            ours.insert("privileged".to_owned(), Value::Boolean(false));
        }
        if self.restricted {
            Self::restrict(&mut extra, &mut ours);
        }
        let mut parts = Parts {
            runner: "[[runners]]\n".to_owned(),
            kubernetes: "  [runners.kubernetes]\n".to_owned(),
            tables: String::new(),
        };
        // Ours first: who reviews the entry begins with them.
        for table in [&runner, &extra] {
            values(&mut parts.runner, table, 1);
        }
        for table in [&ours, &kubernetes] {
            values(&mut parts.kubernetes, table, 2);
        }
        for table in [&ours, &kubernetes] {
            tables(&mut parts.tables, table, "runners.kubernetes", 2);
        }
        kubernetes.clear();
        tables(&mut parts.tables, &extra, "runners", 1);
        parts
    }

    /// What a namespace that enforces Pod Security restricted demands of every container. The seccomp
    /// profile comes as a patch of the pod: a setting for it exists in recent runners only.
    fn restrict(extra: &mut Table, ours: &mut Table) {
        let id = i64::from(UNPRIVILEGED);
        let drop = || Value::Array(vec![Value::String("ALL".to_owned())]);
        let user = |table: &mut Table| {
            table.insert("run_as_non_root".to_owned(), Value::Boolean(true));
            table.insert("run_as_user".to_owned(), Value::Integer(id));
            table.insert("run_as_group".to_owned(), Value::Integer(id));
        };
        ours.insert("allow_privilege_escalation".to_owned(), Value::Boolean(false));
        ours.insert("cap_drop".to_owned(), drop());
        let mut pod = Table::new();
        user(&mut pod);
        pod.insert("fs_group".to_owned(), Value::Integer(id));
        ours.insert("pod_security_context".to_owned(), Value::Table(pod));
        let mut init = Table::new();
        user(&mut init);
        init.insert("allow_privilege_escalation".to_owned(), Value::Boolean(false));
        let mut capabilities = Table::new();
        capabilities.insert("drop".to_owned(), drop());
        init.insert("capabilities".to_owned(), Value::Table(capabilities));
        ours.insert("init_permissions_container_security_context".to_owned(), Value::Table(init));
        let mut patch = Table::new();
        for (key, value) in [
            ("name", "seccomp"),
            ("patch_type", "strategic"),
            ("patch", r#"{"securityContext":{"seccompProfile":{"type":"RuntimeDefault"}}}"#),
        ] {
            patch.insert(key.to_owned(), Value::String(value.to_owned()));
        }
        ours.insert("pod_spec".to_owned(), Value::Array(vec![Value::Table(patch)]));
        let text = |text: &str| Value::String(text.to_owned());
        let mut given = match extra.remove("environment") {
            Some(Value::Array(given)) => given,
            _ => Vec::new(),
        };
        // No image knows the user, so its home would be /, where git cannot write its settings: the runner
        // has it do so for a GitLab with a CA of its own, and the job failed.
        let is_home = |one: &Value| one.as_str().is_some_and(|one| one.starts_with("HOME="));
        if !given.iter().any(is_home) {
            given.push(text("HOME=/tmp"));
        }
        given.push(text("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION=true"));
        extra.insert("environment".to_owned(), Value::Array(given));
    }
}

fn is_table(value: &Value) -> bool {
    match value {
        Value::Table(_) => true,
        Value::Array(items) => !items.is_empty() && items.iter().all(Value::is_table),
        _ => false,
    }
}

/// The table's own values, one a line.
fn values(out: &mut String, table: &Table, depth: usize) {
    for (name, value) in table.iter().filter(|(_, value)| !is_table(value)) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:width$}{} = {}", "", key(name), inline(value), width = depth * 2);
    }
}

/// The tables below it, each with its values.
fn tables(out: &mut String, table: &Table, path: &str, depth: usize) {
    for (name, value) in table {
        let path = format!("{path}.{}", key(name));
        match value {
            Value::Table(inner) => {
                let _ = writeln!(out, "{:width$}[{path}]", "", width = depth * 2);
                values(out, inner, depth + 1);
                tables(out, inner, &path, depth + 1);
            }
            Value::Array(items) if is_table(value) => {
                for inner in items.iter().filter_map(Value::as_table) {
                    let _ = writeln!(out, "{:width$}[[{path}]]", "", width = depth * 2);
                    values(out, inner, depth + 1);
                    tables(out, inner, &path, depth + 1);
                }
            }
            _ => {}
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
        // As TOML wants it: a float has a point or an exponent.
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
    use toml::Table;

    use super::{Entry, parse};

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
        }
    }

    fn whole(entry: &Entry<'_>) -> Table {
        let parts = entry.parts();
        let text = format!("{}{}{}", parts.runner, parts.kubernetes, parts.tables);
        let table: Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
        table["runners"][0].as_table().cloned().unwrap_or_default()
    }

    #[test]
    fn what_the_user_adds_arrives_beside_what_is_ours() {
        let text = "[[runners]]\nenvironment = [\"A=\\\"b\\n\"]\n[runners.cache]\nType = \"s3\"\n[runners.cache.s3]\nServerAddress = \"s3\"\n\
            [runners.kubernetes]\ncpu_limit = \"1\"\npoll_timeout = 600\nprivileged = true\n[runners.kubernetes.node_selector]\n\"kubernetes.io/os\" = \"linux\"\n\
            [[runners.kubernetes.volumes.empty_dir]]\nname = \"a\"\nmount_path = \"/a\"\n[[runners.kubernetes.volumes.empty_dir]]\nname = \"b\"\nmount_path = \"/b\"\n";
        let extra = parse(text, false).expect("this is allowed");
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
    fn restricted_namespaces_get_what_they_demand() {
        let extra = parse("[[runners]]\nenvironment = [\"A=b\"]\n", true).expect("this is allowed");
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
            ("[[runners]]\n[[runners]]\n", "more than one"),
            ("[[runners]]\ntoken = \"x\"\n", "runners.token"),
            ("[[runners]]\n[runners.kubernetes]\nbearer_token = \"x\"\n", "runners.kubernetes.bearer_token"),
            ("[[runners]]\nkubernetes = 1\n", "not a table"),
            // gitlab-runner does not regard case, nor what Unicode folds onto a letter.
            ("[[runners]]\nToken = \"x\"\n", "runners.token is outrigger's"),
            ("[[runners]]\nURL = \"x\"\n", "runners.url is outrigger's"),
            ("[[Runners]]\nExecutor = \"shell\"\n", "runners.executor is outrigger's"),
            ("[[runners]]\nto\\u212aen = 1\n", "not TOML"),
            ("[[runners]]\n\"to\\u212aen\" = 1\n", "runners.token is outrigger's"),
            ("[[runners]]\n\"tl\\u017f-ca-file\" = 1\n", "runners.tls-ca-file is outrigger's"),
            ("[[runners]]\n[runners.Kubernetes]\nHost = \"x\"\n", "runners.kubernetes.host is outrigger's"),
            (
                "[[runners]]\n[runners.kubernetes]\nBearer_Token = \"x\"\n",
                "runners.kubernetes.bearer_token is",
            ),
            ("[[runners]]\n[runners.kubernetes]\nImage = \"x\"\n", "runners.kubernetes.image is outrigger's"),
            ("[[runners]]\n[runners.kubernetes]\n[runners.Kubernetes]\n", "runners.kubernetes are one key"),
            (
                "[[runners]]\n[runners.kubernetes]\nprivileged = false\nPrivileged = true\n",
                "are one key for gitlab-runner",
            ),
            ("[[runners]]\n[[Runners]]\n", "are one key for gitlab-runner"),
            ("Concurrent = 9\n[[runners]]\n", "\"concurrent\" is no part"),
        ] {
            let failure = parse(text, false).expect_err(text);
            assert!(failure.details[0].1.contains(named), "{text}: {:?}", failure.details);
        }
        for key in ["privileged", "Privileged", "ALLOW_PRIVILEGE_ESCALATION", "Cap_Add", "pod_\u{17f}pec"] {
            for table in ["kubernetes", "Kubernetes"] {
                let text = format!("[[runners]]\n[runners.{table}]\n{key:?} = true\n");
                assert!(parse(&text, false).is_ok() && parse(&text, true).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn keys_in_another_case_are_taken_as_the_runner_takes_them() {
        let text = "[[runners]]\nEnvironment = [\"A=b\"]\n[runners.Kubernetes]\nPrivileged = true\n\
            [runners.Kubernetes.node_selector]\nDisk = \"ssd\"\ndisk = \"hdd\"\n";
        let made = whole(&entry(&parse(text, false).expect("this is allowed"), false));
        assert_eq!(made["kubernetes"]["privileged"].as_bool(), Some(true));
        let parts = entry(&parse(text, false).expect("this is allowed"), false).parts();
        assert!(!parts.kubernetes.contains("privileged = false"), "{}", parts.kubernetes);
        assert_eq!(made["kubernetes"]["node_selector"]["Disk"].as_str(), Some("ssd"));
        assert_eq!(made["kubernetes"]["node_selector"]["disk"].as_str(), Some("hdd"));
        let text = "[[runners]]\nEnvironment = [\"A=b\"]\n";
        let made = whole(&entry(&parse(text, true).expect("this is allowed"), true));
        assert_eq!(made["environment"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn more_than_one_job_at_once_asks_more_than_once_at_once() {
        let none = Table::new();
        let asks = |limit, extra: &Table| {
            let made = whole(&Entry { job_limit: limit, ..entry(extra, false) });
            made.get("request_concurrency").and_then(toml::Value::as_integer)
        };
        assert_eq!(
            [1, 2, 4, 5, 100].map(|limit| asks(limit, &none)),
            [None, Some(2), Some(4), Some(4), Some(4)]
        );
        let own = parse("[[runners]]\nRequest_Concurrency = 7\n", false).expect("this is allowed");
        assert_eq!(asks(9, &own), Some(7));
    }
}
