//! Kubeconfig files as kubectl reads and merges them (k8s.io/client-go/tools/clientcmd, version 0.37).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::error::{Command, Failure, Id, Result};
use crate::base::files::Intake;
use crate::base::yaml::{self, DuplicateKeys};

/// Largest kubeconfig read, in bytes: room for hundreds of clusters with their CAs.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Selects a context.
#[derive(Debug, Default)]
pub struct Selection<'a> {
    /// `--kubeconfig` (or its recorded value).
    pub file: Option<&'a Path>,
    /// `--context` (or its recorded value), with its source as shown in the plan.
    pub context: Option<(&'a str, String)>,
    /// `--as`.
    pub as_user: Option<&'a str>,
    /// `--as-group`.
    pub as_groups: &'a [String],
}

/// All kubeconfig files merged. Not `Debug`: it contains secrets.
#[derive(Default)]
pub(super) struct Kubeconfig {
    pub clusters: BTreeMap<String, Cluster>,
    pub users: BTreeMap<String, User>,
    pub contexts: BTreeMap<String, Context>,
    pub current: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Cluster {
    pub server: String,
    pub tls_server_name: String,
    pub insecure_skip_tls_verify: bool,
    pub certificate_authority: String,
    pub certificate_authority_data: String,
    pub proxy_url: String,
    pub extensions: Vec<Extension>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Extension {
    pub name: String,
    pub extension: Value,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct User {
    pub client_certificate: String,
    pub client_certificate_data: String,
    pub client_key: String,
    pub client_key_data: String,
    pub token: String,
    #[serde(rename = "tokenFile")]
    pub token_file: String,
    #[serde(rename = "as")]
    pub impersonate: String,
    pub as_uid: String,
    pub as_groups: Vec<String>,
    pub as_user_extra: BTreeMap<String, Vec<String>>,
    pub username: String,
    pub password: String,
    pub auth_provider: Option<Provider>,
    pub exec: Option<Exec>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Provider {
    pub name: String,
    pub config: BTreeMap<String, String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Exec {
    pub api_version: String,
    pub command: String,
    pub args: Vec<String>,
    pub env: Vec<Variable>,
    pub install_hint: String,
    pub interactive_mode: String,
    pub provide_cluster_info: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Variable {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Context {
    pub cluster: String,
    pub user: String,
}

/// The context names and the current context. Fails with OR0301 (exit 3) if the kubeconfig is missing or invalid.
pub async fn contexts(
    selection: &Selection<'_>,
    env: &BTreeMap<String, String>,
    intake: &Intake,
) -> Result<(Vec<String>, Option<String>)> {
    let (config, _) = read(selection.file, env, intake).await?;
    let names = config.contexts.into_keys().collect();
    Ok((names, Some(config.current).filter(|name| !name.is_empty())))
}

/// The message where no kubeconfig is named and none is in its place.
pub const NONE_FOUND: &str = "no kubeconfig found";

/// Reads `--kubeconfig`, else the files in `KUBECONFIG`, else `~/.kube/config`; returns the files read. The first file
/// with an entry of a name, or with a current context, has precedence.
pub(super) async fn read(
    file: Option<&Path>,
    env: &BTreeMap<String, String>,
    intake: &Intake,
) -> Result<(Kubeconfig, Vec<PathBuf>)> {
    let is_given = file.is_some() || env.get("KUBECONFIG").is_some_and(|list| !list.is_empty());
    let candidates: Vec<PathBuf> = match (file, env.get("KUBECONFIG").filter(|list| !list.is_empty())) {
        (Some(file), _) => vec![file.to_owned()],
        (None, Some(list)) => {
            std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect()
        }
        (None, None) => {
            env.get("HOME").map(|home| Path::new(home).join(".kube/config")).into_iter().collect()
        }
    };
    let mut merged = Kubeconfig::default();
    let mut read = Vec::new();
    for path in &candidates {
        let Some(bytes) = intake.aims(path, LONGEST).await? else { continue };
        let mut next = parse(&bytes, path).map_err(|why| {
            Failure::new(Id::UnusableKubeconfig, format!("invalid kubeconfig {}", path.display()))
                .detail("because", why)
                .hint("use another one: --kubeconfig FILE, or KUBECONFIG")
        })?;
        read.push(path.clone());
        // `append` overwrites entries: earlier files have precedence.
        next.clusters.append(&mut merged.clusters);
        next.users.append(&mut merged.users);
        next.contexts.append(&mut merged.contexts);
        if !merged.current.is_empty() {
            next.current = merged.current;
        }
        merged = next;
    }
    if !read.is_empty() {
        return Ok((merged, read));
    }
    if let [path] = candidates.as_slice()
        && is_given
    {
        let message = format!("the kubeconfig {} does not exist", path.display());
        return Err(Failure::new(Id::UnusableKubeconfig, message).hint("check --kubeconfig and KUBECONFIG"));
    }
    let mut failure = Failure::new(Id::UnusableKubeconfig, NONE_FOUND);
    for path in &candidates {
        failure = failure.detail("looked for", path.display().to_string());
    }
    Err(failure.hint((
        "name one with --kubeconfig FILE, or in KUBECONFIG; to show the one kubectl uses",
        Command::Whole("kubectl config view".to_owned()),
    )))
}

/// Reads one file. Errors contain the entry's name and never a value, which could be a secret.
fn parse(bytes: &[u8], path: &Path) -> Result<Kubeconfig, String> {
    let text = decode(bytes).ok_or("not UTF-8 or UTF-16 text")?;
    let documents: Vec<Value> = yaml::read(&text, DuplicateKeys::LastWins).map_err(|fault| {
        let at = fault.line.map(|line| format!(" (line {line})")).unwrap_or_default();
        format!("neither valid YAML nor JSON{at}")
    })?;
    let mut value = documents.into_iter().next().unwrap_or_default();
    drop_nulls(&mut value);
    let mut object = match value {
        Value::Null => return Ok(Kubeconfig::default()),
        Value::Object(object) => object,
        _ => return Err("not a mapping".to_owned()),
    };
    let mut take = |key: &str| object.remove(key).unwrap_or_default();
    let mut config = Kubeconfig {
        clusters: entries(take("clusters"), "clusters", "cluster")?,
        users: entries(take("users"), "users", "user")?,
        contexts: entries(take("contexts"), "contexts", "context")?,
        current: match take("current-context") {
            Value::Null => String::new(),
            Value::String(name) => name,
            _ => return Err("current-context is not a string".to_owned()),
        },
    };
    // Paths are relative to the kubeconfig.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let dir = path.parent().unwrap_or(Path::new("/"));
    let resolve = |file: &mut String| {
        if !file.is_empty() {
            *file = dir.join(&*file).display().to_string();
        }
    };
    config.clusters.values_mut().for_each(|cluster| resolve(&mut cluster.certificate_authority));
    for user in config.users.values_mut() {
        resolve(&mut user.client_certificate);
        resolve(&mut user.client_key);
        resolve(&mut user.token_file);
        if let Some(exec) = user.exec.as_mut().filter(|exec| exec.command.contains('/')) {
            resolve(&mut exec.command);
        }
    }
    Ok(config)
}

/// A list of named entries. Refuses a duplicate name, as kubectl does.
fn entries<T: Default + DeserializeOwned>(
    list: Value,
    key: &str,
    inner: &str,
) -> Result<BTreeMap<String, T>, String> {
    let items = match list {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        _ => return Err(format!("{key} is not a list")),
    };
    let mut found = BTreeMap::new();
    for item in items {
        let Value::Object(mut item) = item else {
            return Err(format!("an entry of {key} is not a mapping"));
        };
        let name = match item.remove("name") {
            None => String::new(),
            Some(Value::String(name)) => name,
            Some(_) => return Err(format!("a name in {key} is not a string: put it in quotes")),
        };
        let entry = match item.remove(inner) {
            None => T::default(),
            // The rest of the library's message shows the value.
            Some(value) => serde_json::from_value(value).map_err(|error| {
                let text = error.to_string();
                let expected = text.rsplit_once("expected ").map_or("another type", |(_, expected)| expected);
                format!("in {key}, a value of {name:?} must be {expected}")
            })?,
        };
        if found.insert(name.clone(), entry).is_some() {
            return Err(format!("duplicate name {name:?} in {key}"));
        }
    }
    Ok(found)
}

/// kubectl treats null as absent.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Decodes UTF-8, or UTF-16 with a byte order mark (PowerShell's default).
fn decode(bytes: &[u8]) -> Option<String> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        char::decode_utf16(units).collect::<Result<String, _>>().ok()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        _ => String::from_utf8(bytes.to_vec()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Kubeconfig, String> {
        parse(text.as_bytes(), Path::new("/home/me/.kube/config"))
    }

    #[test]
    fn values_are_read_as_kubectl_reads_them() {
        let config = parsed(
            "clusters:\n- {name: a, cluster: {server: one, server: two, certificate-authority: ca.pem, unknown: 1}}\n\
             - name: empty\n- {name: nulls, cluster: {server: null}}\n\
             contexts: null\nusers:\n- {name: u, user: {exec: {command: ./bin/x}}}\n- {name: v, user: {exec: {command: aws}}}\n\
             current-context: a\n---\ncurrent-context: b\n",
        )
        .expect("fine");
        assert_eq!(config.clusters["a"].server, "two");
        assert_eq!(config.clusters["a"].certificate_authority, "/home/me/.kube/ca.pem");
        assert_eq!(config.clusters["empty"].server, "");
        assert_eq!(config.current, "a");
        let command = |name: &str| config.users[name].exec.as_ref().map(|exec| exec.command.clone());
        assert_eq!(command("u").as_deref(), Some("/home/me/.kube/./bin/x"));
        assert_eq!(command("v").as_deref(), Some("aws"));
        assert!(parsed("").expect("an empty file is none").contexts.is_empty());
        assert!(
            parsed("{\"kind\": \"Config\", \"contexts\": [{\"name\": \"j\"}]}")
                .expect("JSON")
                .contexts
                .contains_key("j")
        );
        let wide: Vec<u8> = "\u{feff}current-context: w".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(parse(&wide, Path::new("x")).map(|config| config.current), Ok("w".to_owned()));
    }

    #[test]
    fn errors_name_the_entry_and_show_no_value() {
        for (text, why) in [
            ("users: canary", "not a list"),
            ("users: [canary]", "not a mapping"),
            ("users: [{name: u, user: {token: [canary]}}]", "\"u\" must be a string"),
            ("users: [{name: u, user: {token: 4711}}]", "\"u\" must be a string"),
            ("users: [{name: u, user: canary}]", "\"u\" must be"),
            ("clusters: [{name: c, cluster: {insecure-skip-tls-verify: \"canary\"}}]", "a boolean"),
            ("users: [{name: u}, {name: u}]", "duplicate name"),
            ("users:\n- {name: u, user: {token: canary", "line"),
            ("canary", "not a mapping"),
            ("current-context: [canary]", "not a string"),
        ] {
            let found = parsed(text).err().unwrap_or_else(|| panic!("taken: {text}"));
            assert!(
                found.contains(why) && !found.contains("canary") && !found.contains("4711"),
                "{text}: {found}"
            );
        }
    }
}
