//! The cache of jobs: the table `[runners.cache]` of the runner's entry.
//!
//! Source of keys and defaults: gitlab-runner's `cache/cacheconfig` and its adapters. Without credentials the runner
//! uses the machine's identity, which comes from the metadata service: `AuthenticationType = "iam"` for S3, application
//! default credentials for GCS, the default credential chain for Azure. Pods get only signed URLs.

use std::path::Path;

use toml::{Table, Value};

use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::files::Intake;
use crate::deployment::run::Run;
use crate::settings::{CacheType, Settings, Source, Sourced, missing_failure};

const CREDENTIALS: &str = "--cache-credentials-file";

/// The table of the settings; `None` without a cache. `extra` is the content of `--runner-config`. Fails (exit 2) for settings that do not fit together and for a
/// credentials file that is not in the cloud's format.
pub async fn read(run: &Run, intake: &Intake, extra: &Table) -> Result<Option<Table>> {
    let settings = &run.settings;
    let kind = settings.cache_type.as_ref().map_or(CacheType::None, |kind| kind.value);
    fits(settings, kind)?;
    let name = match kind {
        CacheType::None => return Ok(None),
        kind => kind.word(),
    };
    if extra.contains_key("cache") {
        return Err(Failure::new(Id::RunnerConfig, "--cache-type and --runner-config both set the cache")
            .with_kind(Kind::Usage)
            .hint("remove [runners.cache] from the file, or use --cache-type none"));
    }
    let text =
        |value: &Option<Sourced<String>>| value.as_ref().map(|value| Value::from(value.value.as_str()));
    let missing = settings.missing_of_cache();
    if !missing.is_empty() {
        return Err(missing_failure(&missing));
    }
    let secrets = match &settings.cache_credentials_file {
        Some(path) => credentials(kind, &path.value, intake).await?,
        None => Table::new(),
    };
    let bucket = text(&settings.cache_bucket);
    let endpoint = text(&settings.cache_endpoint);
    let by = if secrets.is_empty() { "iam" } else { "access-key" };
    let own: &[(&str, Option<Value>)] = match kind {
        CacheType::S3 => &[
            ("BucketName", bucket),
            ("BucketLocation", text(&settings.cache_region)),
            ("ServerAddress", endpoint),
            ("AuthenticationType", Some(by.into())),
        ],
        CacheType::Azure => &[
            ("ContainerName", bucket),
            ("AccountName", text(&settings.cache_account)),
            ("StorageDomain", endpoint),
        ],
        CacheType::Gcs | CacheType::None => &[("BucketName", bucket)],
    };
    let mut store = secrets;
    store.extend(own.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?))));
    let mut table = Table::from_iter([("Type".to_owned(), name.into()), (name.to_owned(), store.into())]);
    if let Some(path) = text(&settings.cache_path) {
        table.insert("Path".to_owned(), path);
    }
    if settings.cache_shared {
        table.insert("Shared".to_owned(), true.into());
    }
    Ok(Some(table))
}

/// Refuses settings that the cache's type does not have. Remembered ones are ignored.
fn fits(settings: &Settings, kind: CacheType) -> Result<()> {
    let rules: [(&str, &str, &[CacheType]); 7] = [
        ("cacheBucket", "--cache-bucket", &[CacheType::S3, CacheType::Gcs, CacheType::Azure]),
        ("cacheRegion", "--cache-region", &[CacheType::S3]),
        ("cacheEndpoint", "--cache-endpoint", &[CacheType::S3, CacheType::Azure]),
        ("cacheAccount", "--cache-account", &[CacheType::Azure]),
        ("cachePath", "--cache-path", &[CacheType::S3, CacheType::Gcs, CacheType::Azure]),
        ("cacheShared", "--cache-shared", &[CacheType::S3, CacheType::Gcs, CacheType::Azure]),
        ("cacheCredentialsFile", CREDENTIALS, &[CacheType::S3, CacheType::Gcs, CacheType::Azure]),
    ];
    for (key, flag, kinds) in rules {
        let given = settings
            .view(key)
            .is_some_and(|(_, source)| source != Source::Default && !source.is_remembered());
        if given && !kinds.contains(&kind) {
            let words: Vec<_> = kinds.iter().map(|kind| kind.word()).collect();
            let failure =
                Failure::new(Id::InvalidInput, format!("{flag} cannot be used with --cache-type {kind}"));
            return Err(failure.hint(format!("omit {flag}, or use --cache-type {}", words.join(", or "))));
        }
    }
    Ok(())
}

/// The secret keys of the entry, from the file in the cloud's own format.
async fn credentials(kind: CacheType, path: &Path, intake: &Intake) -> Result<Table> {
    let refuse = |why: &str| {
        let format = match kind {
            CacheType::S3 => {
                "give a file with two lines: aws_access_key_id = … and aws_secret_access_key = …"
            }
            CacheType::Azure => "give a file that contains only the storage account's access key",
            CacheType::Gcs | CacheType::None => "give the JSON key file of a Google service account",
        };
        Failure::new(Id::InvalidInput, format!("invalid {CREDENTIALS} {}", path.display()))
            .detail("because", why)
            .hint(format)
    };
    let bytes = intake.secret(path).await?.ok_or_else(|| refuse("it does not exist"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| refuse("it is not UTF-8"))?;
    parse(kind, text).map_err(refuse)
}

/// The error completes "because".
fn parse(kind: CacheType, text: &str) -> std::result::Result<Table, &'static str> {
    let pairs = match kind {
        CacheType::S3 => {
            let value = |name: &str| {
                let lines = text.lines().filter_map(|line| line.split_once('='));
                let mut values = lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
                match (values.next(), values.next()) {
                    (Some(value), None) if !value.is_empty() => Ok(value.to_owned()),
                    (Some(_), Some(_)) => Err("it has several profiles"),
                    _ => Err("it does not contain both keys"),
                }
            };
            vec![("AccessKey", value("aws_access_key_id")?), ("SecretKey", value("aws_secret_access_key")?)]
        }
        CacheType::Azure => {
            let key = text.trim();
            if key.is_empty()
                || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
            {
                return Err("it is not an access key in base64");
            }
            vec![("AccountKey", key.to_owned())]
        }
        CacheType::Gcs | CacheType::None => {
            let key: serde_json::Value = serde_json::from_str(text).map_err(|_| "it is not JSON")?;
            let value = |name: &str| key[name].as_str().map(str::to_owned);
            let (Some(email), Some(private)) = (value("client_email"), value("private_key")) else {
                return Err("it does not contain client_email and private_key");
            };
            vec![("AccessID", email), ("PrivateKey", private)]
        }
    };
    Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect())
}

/// Whether a cache, of the settings or of `--runner-config`, uses the machine's identity. Case is ignored, as
/// gitlab-runner does.
pub(super) fn uses_identity(cache: &Table) -> bool {
    let find =
        |name: &str| cache.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let kind = find("type").and_then(Value::as_str).unwrap_or_default();
    let store = find(kind).and_then(Value::as_table);
    store.is_some_and(|store| !store.keys().any(|key| is_secret(key)))
}

/// Whether a key of a store holds a credential, or its file.
fn is_secret(key: &str) -> bool {
    const SECRETS: [&str; 5] = ["accesskey", "secretkey", "credentialsfile", "privatekey", "accountkey"];
    SECRETS.contains(&key.to_ascii_lowercase().as_str())
}

/// The table without its credentials.
pub(super) fn without_credentials(cache: &Table) -> Table {
    let stripped = |(key, value): (&String, &Value)| {
        let value = match value {
            Value::Table(store) => {
                let kept = store.iter().filter(|(key, _)| !is_secret(key));
                Value::Table(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
            }
            other => other.clone(),
        };
        (key.clone(), value)
    };
    cache.iter().map(stripped).collect()
}

#[cfg(test)]
mod tests {
    use super::{parse, uses_identity, without_credentials};
    use crate::settings::CacheType;

    #[test]
    fn reads_each_clouds_own_format() {
        let keys = "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key=abc/+=\n";
        let table = parse(CacheType::S3, keys).expect("two keys");
        assert_eq!(
            (table["AccessKey"].as_str(), table["SecretKey"].as_str()),
            (Some("AKIAEXAMPLE"), Some("abc/+="))
        );
        for bad in ["", "aws_access_key_id = a\n", "AKIA\nabc\n", &format!("{keys}{keys}")] {
            assert!(parse(CacheType::S3, bad).is_err(), "{bad}");
        }
        let json = r#"{"type": "service_account", "client_email": "a@b", "private_key": "-----BEGIN\nx\n"}"#;
        let table = parse(CacheType::Gcs, json).expect("a key");
        assert_eq!(
            (table["AccessID"].as_str(), table["PrivateKey"].as_str()),
            (Some("a@b"), Some("-----BEGIN\nx\n"))
        );
        assert!(parse(CacheType::Gcs, "{}").is_err() && parse(CacheType::Gcs, "x").is_err());
        assert_eq!(parse(CacheType::Azure, "YWI=\n").expect("a key")["AccountKey"].as_str(), Some("YWI="));
        assert!(parse(CacheType::Azure, " \n").is_err() && parse(CacheType::Azure, "a b").is_err());
    }

    #[test]
    fn credentials_are_taken_out_and_nothing_else() {
        let whole =
            "Type = \"s3\"\nPath = \"p\"\n[s3]\nAccessKey = \"a\"\nSecretKey = \"b\"\nBucketName = \"c\"\n";
        let rest = "Type = \"s3\"\nPath = \"p\"\n[s3]\nBucketName = \"c\"\n";
        assert_eq!(without_credentials(&whole.parse().expect("TOML")), rest.parse().expect("TOML"));
    }

    #[test]
    fn a_cache_without_credentials_uses_the_machines_identity() {
        for (text, identity) in [
            ("Type = \"s3\"\n[s3]\nBucketName = \"b\"\n", true),
            ("type = \"S3\"\n[s3]\nserveraddress = \"b\"\n", true),
            ("Type = \"s3\"\n[s3]\nsecretKey = \"b\"\n", false),
            ("Type = \"gcs\"\n[gcs]\nCredentialsFile = \"/b\"\n", false),
            ("Type = \"azure\"\n[azure]\nAccountName = \"b\"\n", true),
            ("Path = \"x\"\n", false),
            ("", false),
        ] {
            assert_eq!(uses_identity(&text.parse().expect("TOML")), identity, "{text}");
        }
    }
}
