//! What is known of a deployment on this machine: no secrets.
//!
//! One JSON file per deployment, `<state-dir>/<deployment>.json`, mode 0600. It is written before an
//! object is created (the intent) and after (its uid), so that a run that was killed leaves a trace
//! which the next one can follow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::error::{Failure, Id, Result};
use crate::base::files;
use crate::deployment::names;
use crate::deployment::object::{Kind as ObjectKind, Ref};

/// The schema this program writes; a record with a higher number is refused.
const SCHEMA: u32 = 1;

/// An object that we made, by identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// Which object.
    pub object: Ref,
    /// The server's uid of the one we made.
    pub uid: String,
}

/// The cluster that a deployment lives on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// Name of the kubeconfig context used.
    pub context: String,
    /// Its API server.
    pub server: String,
    /// uid of the namespace `kube-system`; empty where it may not be read.
    pub kube_system: String,
    /// SHA-256 fingerprint of the CA, for clusters whose `kube-system` may not be read.
    pub ca_fingerprint: String,
}

/// The runner that outrigger creates in GitLab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunnerNote {
    /// There is none.
    #[default]
    None,
    /// Its creation began (RFC 3339); whether it was created is not known.
    Creating(String),
    /// It was created.
    Ours(OwnedRunner),
}

/// A runner that outrigger created in GitLab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedRunner {
    /// GitLab's id of it.
    pub id: u64,
    /// When it was created (RFC 3339); empty if that was on another machine.
    #[serde(default)]
    pub made: String,
    /// Where its present authentication token is.
    #[serde(default)]
    pub token: TokenPlace,
}

/// Where a runner authentication token was written, which GitLab shows only once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenPlace {
    /// Nowhere: the run ended before it was written.
    Lost,
    /// In the file of `--runner-token-out`.
    InFile,
    /// In a launch script.
    #[default]
    InScript,
}

/// Our commit of the pipeline file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedCommit {
    /// The project, by id.
    pub project: u64,
    /// The branch.
    pub branch: String,
    /// The file.
    pub path: String,
    /// The commit.
    pub sha: String,
    /// SHA-256 of what we wrote, in hex.
    pub content: String,
    /// The commit before ours; empty if there was no file.
    #[serde(default)]
    pub before: String,
}

/// What we know of GitLab's side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitlabSide {
    /// The instance that what follows is on.
    #[serde(default)]
    pub url: String,
    /// The runner that outrigger creates.
    #[serde(default)]
    pub runner: RunnerNote,
    /// The script has the token of `--runner-token-file`, whatever else is known of a runner.
    #[serde(default)]
    pub given: bool,
    /// The commit.
    #[serde(default)]
    pub commit: Option<OwnedCommit>,
}

impl GitlabSide {
    /// Whether anything may be there because of us.
    pub fn is_empty(&self) -> bool {
        self.runner == RunnerNote::None
    }

    /// The runner that outrigger created.
    pub fn owned(&self) -> Option<&OwnedRunner> {
        if let RunnerNote::Ours(runner) = &self.runner { Some(runner) } else { None }
    }

    /// Notes where the token of the created runner is now.
    pub fn token_is(&mut self, place: TokenPlace) {
        if let RunnerNote::Ours(runner) = &mut self.runner {
            runner.token = place;
        }
    }
}

/// Everything remembered. Unknown fields of the same schema are ignored on reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Schema number.
    pub schema: u32,
    /// The deployment's name.
    pub deployment: String,
    /// Random identity, minted at the first run; also on every object of the deployment.
    pub id: String,
    /// The last settings, by their settings-file keys.
    #[serde(default)]
    pub settings: BTreeMap<String, Vec<String>>,
    /// Where it lives.
    #[serde(default)]
    pub cluster: ClusterIdentity,
    /// Objects that exist because of us.
    #[serde(default)]
    pub objects: Vec<Owned>,
    /// The deployment's ServiceAccounts, the present one last: marks on the runner in GitLab name them.
    #[serde(default)]
    pub anchors: Vec<Owned>,
    /// Objects that we were about to make; their creation may or may not have happened.
    #[serde(default)]
    pub intents: Vec<Ref>,
    /// What is at GitLab because of us.
    #[serde(default)]
    pub gitlab: GitlabSide,
    /// Digest of the non-secret inputs of the launch script that was written last.
    #[serde(default)]
    pub script_digest: String,
    /// Where that script was written.
    #[serde(default)]
    pub script_path: Option<PathBuf>,
    /// uid of the Secret that the token in that script hangs on; empty if none with a token was written.
    #[serde(default)]
    pub script_secret: String,
    /// Which target it was made for, and whether its secrets went beside it.
    #[serde(default)]
    pub script_target: String,
    /// When the cluster token dies (RFC 3339); empty if it does not expire.
    #[serde(default)]
    pub token_expires: String,
}

impl Record {
    /// Where a deployment's record lives.
    pub fn path(state_dir: &Path, deployment: &str) -> PathBuf {
        state_dir.join(format!("{deployment}.json"))
    }

    /// Reads a record; `None` when there is none.
    ///
    /// # Errors
    /// Exit 3 when others may write to it, when it is no record or names what no deployment makes, or when a newer
    /// outrigger wrote it.
    pub fn load(state_dir: &Path, deployment: &str) -> Result<Option<Self>> {
        let path = Self::path(state_dir, deployment);
        let Some(bytes) = files::read(&path)? else { return Ok(None) };
        let unusable = |why: String| {
            Failure::new(Id::UnreadableRecord, format!("invalid record {}", path.display()))
                .detail("because", why)
                .hint("move it away; outrigger then finds the deployment through its ServiceAccount")
        };
        let parsed = serde_json::from_slice(&bytes).map(with_runner_note);
        let record: Self =
            parsed.and_then(serde_json::from_value).map_err(|error| unusable(error.to_string()))?;
        if record.schema != SCHEMA {
            return Err(unusable(format!(
                "its schema is {}, but this version of outrigger supports {SCHEMA}",
                record.schema
            )));
        }
        if record.deployment != deployment {
            return Err(unusable(format!("it belongs to the deployment {}", record.deployment)));
        }
        // These become paths of requests, and are deleted.
        let all = record.objects.iter().map(|owned| &owned.object).chain(&record.intents);
        if let Some(other) = all.into_iter().find(|one| !names::could_be_of(deployment, one)) {
            let why = "which is not an object of a deployment of this name";
            return Err(unusable(format!("it lists {:?}, {why}", other.to_string())));
        }
        Ok(Some(record))
    }

    /// A new record with a fresh identity, not yet on disk.
    pub fn new(deployment: &str) -> Result<Self> {
        Ok(Self { schema: SCHEMA, deployment: deployment.to_owned(), id: random_hex(16)?, ..Self::default() })
    }

    /// Writes it.
    pub fn save(&self, state_dir: &Path) -> Result<()> {
        files::make_dir(state_dir)?;
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::new(Id::Internal, format!("cannot serialize the record: {error}")))?;
        text.push(b'\n');
        files::write_private(&Self::path(state_dir, &self.deployment), &text)
    }

    /// The uid recorded for an object.
    pub fn uid_of(&self, object: &Ref) -> Option<&str> {
        self.objects.iter().find(|owned| owned.object == *object).map(|owned| owned.uid.as_str())
    }

    /// Notes that an object is about to be made.
    pub fn intend(&mut self, object: &Ref) {
        if !self.intents.contains(object) {
            self.intents.push(object.clone());
        }
    }

    /// Notes that an object exists and is ours.
    pub fn own(&mut self, object: &Ref, uid: &str) {
        self.intents.retain(|intent| intent != object);
        self.objects.retain(|owned| owned.object != *object);
        let owned = Owned { object: object.clone(), uid: uid.to_owned() };
        let is_anchor = object.kind == ObjectKind::ServiceAccount && object.name == self.deployment;
        if is_anchor && self.anchors.last() != Some(&owned) {
            self.anchors.push(owned.clone());
        }
        self.objects.push(owned);
    }

    /// Forgets an object that is gone, or whose creation was refused.
    pub fn forget(&mut self, object: &Ref) {
        self.intents.retain(|intent| intent != object);
        self.objects.retain(|owned| owned.object != *object);
    }
}

/// `bytes` random bytes from the system as lower-case hex.
pub fn random_hex(bytes: usize) -> Result<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut buffer = vec![0_u8; bytes];
    getrandom::fill(&mut buffer).map_err(|error| {
        Failure::new(Id::Internal, format!("the system returned no random numbers: {error}"))
    })?;
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    Ok(buffer.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
}

/// Records of before kept the runner, its intent and its token's place in four fields.
fn with_runner_note(mut record: Value) -> Value {
    if let Some(gitlab) = record.get_mut("gitlab").and_then(Value::as_object_mut)
        && gitlab.get("runner").is_none_or(|runner| runner.is_null() || runner.get("id").is_some())
    {
        let is = |name: &str| gitlab.get(name) == Some(&Value::Bool(true));
        let place = match (is("token_lost"), is("handed_over")) {
            (true, _) => TokenPlace::Lost,
            (_, true) => TokenPlace::InFile,
            _ => TokenPlace::InScript,
        };
        let note = match (gitlab.get("intent"), gitlab.get("runner")) {
            (Some(Value::String(since)), _) => json!({ "creating": since }),
            (_, Some(Value::Object(runner))) => {
                json!({"ours": {"id": runner.get("id"), "made": runner.get("made").and_then(Value::as_str).unwrap_or(""), "token": place}})
            }
            _ => json!("none"),
        };
        gitlab.insert("runner".to_owned(), note);
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Id;

    #[test]
    fn runners_of_earlier_records_are_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let made = "2026-01-01T00:00:00Z";
        let ours = |token| RunnerNote::Ours(OwnedRunner { id: 7, made: made.to_owned(), token });
        let runner = json!({"id": 7, "made": made});
        for (gitlab, expected) in [
            (json!({"url": "u", "runner": null, "intent": null}), RunnerNote::None),
            (
                json!({"runner": null, "intent": made, "token_lost": true}),
                RunnerNote::Creating(made.to_owned()),
            ),
            (json!({"runner": runner, "token_lost": true}), ours(TokenPlace::Lost)),
            (json!({"runner": runner, "handed_over": true}), ours(TokenPlace::InFile)),
            (json!({"runner": runner}), ours(TokenPlace::InScript)),
        ] {
            let mut record = Record::new("demo").expect("random numbers");
            record.gitlab.runner = RunnerNote::None;
            let mut text = serde_json::to_value(&record).expect("a record");
            text["gitlab"] = gitlab.clone();
            files::write_private(&Record::path(dir.path(), "demo"), text.to_string().as_bytes())
                .expect("saved");
            let mut back = Record::load(dir.path(), "demo").expect("readable").expect("there");
            assert_eq!(back.gitlab.runner, expected, "{gitlab}");
            back.save(dir.path()).expect("saved");
            assert_eq!(Record::load(dir.path(), "demo").expect("readable"), Some(std::mem::take(&mut back)));
        }
    }

    #[test]
    fn a_record_survives_the_disk_and_a_newer_schema_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut record = Record::new("demo").expect("random numbers");
        let role = Ref::new(ObjectKind::Role, "demo-jobs", "demo");
        record.intend(&role);
        record.own(&role, "uid-1");
        record.save(dir.path()).expect("saved");
        let back = Record::load(dir.path(), "demo").expect("readable").expect("there");
        assert_eq!(back, record);
        assert_eq!(back.uid_of(&role), Some("uid-1"));
        assert!(back.intents.is_empty());

        record.schema = SCHEMA + 1;
        record.save(dir.path()).expect("saved");
        assert_eq!(Record::load(dir.path(), "demo").expect_err("refused").id, Id::UnreadableRecord);
    }
}
