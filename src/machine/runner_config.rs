use toml::{Table, Value};

use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::files::Intake;
use crate::deployment::run::Run;
use crate::machine::{cache, config_entry};

/// Keys of `[[runners]]` whose texts are no secrets. Those of all others may be, such as `environment` and the scripts.
const PLAIN: &[&str] = &["builds_dir", "cache_dir", "shell"];
/// Keys in `[runners.kubernetes]` and the tables below it whose texts may be secrets. All others are names, quantities
/// and policies.
const FREE: &[&str] =
    &["args", "command", "entrypoint", "environment", "http_headers", "patch", "volume_attributes"];

/// Reads the file of `--runner-config`; an empty table without the setting. Fails with OR0712.
pub async fn read(run: &Run, intake: &Intake) -> Result<Table> {
    let Some(path) = &run.settings.runner_config else { return Ok(Table::new()) };
    let path = &path.value;
    let unusable = |why: &str| {
        Failure::new(Id::RunnerConfig, format!("invalid --runner-config file {}", path.display()))
            .with_kind(Kind::Usage)
            .detail("because", why)
            .hint("give a TOML file with one [[runners]]: --runner-config FILE")
    };
    let bytes = intake.text(path).await?.ok_or_else(|| unusable("it does not exist"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable("it is not UTF-8"))?;
    config_entry::parse(text, run.settings.pod_security.word())
}

/// The table without what may be secret: the texts of unknown meaning, and a cache's credentials. Of a variable, the
/// name stays.
pub fn without_secrets(extra: &Table) -> Table {
    let plain = |(key, value): (&String, &Value)| {
        let value = match (key.as_str(), value) {
            ("cache", Value::Table(table)) => cache::without_credentials(table).into(),
            ("kubernetes", value) => of_pods(value),
            (key, value) if PLAIN.contains(&key) => value.clone(),
            (_, value) => without_texts(value),
        };
        (key.clone(), value)
    };
    extra.iter().map(plain).collect()
}

/// Whether the table contains something that [`without_secrets`] takes out.
pub fn may_hold_secrets(extra: &Table) -> bool {
    without_secrets(extra) != *extra
}

/// `[runners.kubernetes]`, or what is below it.
fn of_pods(value: &Value) -> Value {
    match value {
        Value::Table(table) => {
            let plain = |(key, value): (&String, &Value)| {
                let is_free = FREE.iter().any(|free| free.eq_ignore_ascii_case(key));
                (key.clone(), if is_free { without_texts(value) } else { of_pods(value) })
            };
            Value::Table(table.iter().map(plain).collect())
        }
        Value::Array(values) => values.iter().map(of_pods).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

fn without_texts(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let name = text.split_once('=').map(|(name, _)| name).filter(|name| is_name(name));
            name.map(|name| format!("{name}=")).unwrap_or_default().into()
        }
        Value::Array(values) => values.iter().map(without_texts).collect::<Vec<_>>().into(),
        Value::Table(table) => {
            Value::Table(table.iter().map(|(key, value)| (key.clone(), without_texts(value))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::{may_hold_secrets, without_secrets};
    use crate::machine::config_entry;

    #[test]
    fn what_may_be_secret_is_taken_out_and_nothing_else() {
        let parsed = |text: &str| config_entry::parse(text, "baseline").expect("one [[runners]]");
        let whole = parsed(
            r#"
[[runners]]
environment = ["DB_PASSWORD=hunter2", "DEBUG=1"]
pre_build_script = "curl -u me:hunter2 https://a"
clone_url = "https://me:hunter2@git.example.com"
shell = "bash"
output_limit = 100
[runners.feature_flags]
FF_A = true
[runners.cache]
Type = "s3"
[runners.cache.s3]
BucketName = "ours"
SecretKey = "hunter2"
[runners.kubernetes]
cpu_limit = "1"
[runners.kubernetes.node_selector]
"example.com/pool" = "ci"
[[runners.kubernetes.services]]
name = "redis:8"
command = ["--requirepass", "hunter2"]
[[runners.kubernetes.pod_spec]]
name = "patch-it"
patch = "env: hunter2"
"#,
        );
        let rest = parsed(
            r#"
[[runners]]
environment = ["DB_PASSWORD=", "DEBUG="]
pre_build_script = ""
clone_url = ""
shell = "bash"
output_limit = 100
[runners.feature_flags]
FF_A = true
[runners.cache]
Type = "s3"
[runners.cache.s3]
BucketName = "ours"
[runners.kubernetes]
cpu_limit = "1"
[runners.kubernetes.node_selector]
"example.com/pool" = "ci"
[[runners.kubernetes.services]]
name = "redis:8"
command = ["", ""]
[[runners.kubernetes.pod_spec]]
name = "patch-it"
patch = ""
"#,
        );
        assert_eq!(without_secrets(&whole), rest);
        assert!(may_hold_secrets(&whole));
        let plain = parsed("[[runners]]\noutput_limit = 1\n[runners.kubernetes]\ncpu_limit = \"1\"\n");
        assert!(!may_hold_secrets(&plain) && without_secrets(&plain) == plain);
    }
}
