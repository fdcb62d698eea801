//! This machine's record of a deployment, without secrets.
//!
//! One JSON file per deployment, `<state-dir>/<deployment>.json`, mode 0600. It is saved before an object is created
//! (the intent) and after (the uid), so that a later run finds the objects of a killed one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::error::{Failure, Id, Result};
use crate::base::files;
use crate::deployment::names;
use crate::deployment::object::{Kind as ObjectKind, Ref};

/// The schema of this version; another one is refused.
const SCHEMA: u32 = 1;

/// An object that outrigger created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    pub object: Ref,
    pub uid: String,
}

/// The cluster of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// Name of the kubeconfig context used.
    pub context: String,
    /// URL of the API server.
    pub server: String,
    /// Uid of the namespace `kube-system`; empty if it may not be read.
    pub kube_system: String,
    /// SHA-256 fingerprint of the CA; identifies the cluster if `kube_system` is empty.
    pub ca_fingerprint: String,
}

/// The runner that outrigger creates in GitLab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunnerNote {
    #[default]
    None,
    /// Start of its creation (RFC 3339), whose result is not known.
    Creating(String),
    Ours(OwnedRunner),
}

/// A runner that outrigger created in GitLab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedRunner {
    /// GitLab's id.
    pub id: u64,
    /// Time of creation (RFC 3339); empty if created on another machine.
    #[serde(default)]
    pub made: String,
    /// Place of its current authentication token.
    #[serde(default)]
    pub token: TokenPlace,
    /// When the token that outrigger got last expires (RFC 3339), unless gitlab-runner renews it; empty if it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expires: String,
    /// A teardown paused it, and has not deleted it yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// The place of a runner authentication token, which GitLab shows only once.
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

/// outrigger's commit of the pipeline file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedCommit {
    /// Numeric id.
    pub project: u64,
    pub branch: String,
    pub path: String,
    pub sha: String,
    /// SHA-256 of the committed content, in hex.
    pub content: String,
    /// The file's previous commit; empty if the file did not exist.
    #[serde(default)]
    pub before: String,
}

/// The deployment's runner and commit in GitLab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitlabSide {
    /// URL of the GitLab instance.
    #[serde(default)]
    pub url: String,
    #[serde(default)]
    pub runner: RunnerNote,
    /// The script contains the token of `--runner-token-file`, regardless of `runner`.
    #[serde(default)]
    pub given: bool,
    #[serde(default)]
    pub commit: Option<OwnedCommit>,
}

impl GitlabSide {
    /// Whether outrigger created no runner.
    pub fn is_empty(&self) -> bool {
        self.runner == RunnerNote::None
    }

    /// The runner that outrigger created.
    pub fn owned(&self) -> Option<&OwnedRunner> {
        if let RunnerNote::Ours(runner) = &self.runner { Some(runner) } else { None }
    }

    /// The created runner, if a teardown paused it.
    pub fn paused(&self) -> Option<&OwnedRunner> {
        self.owned().filter(|runner| runner.paused)
    }

    /// Sets whether a teardown paused the created runner.
    pub fn is_paused(&mut self, paused: bool) {
        if let RunnerNote::Ours(runner) = &mut self.runner {
            runner.paused = paused;
        }
    }

    /// Sets the place of the created runner's token.
    pub fn token_is(&mut self, place: TokenPlace) {
        if let RunnerNote::Ours(runner) = &mut self.runner {
            runner.token = place;
        }
    }
}

/// The Secrets of the cluster token, each by its generation: the end of its name, empty for the first one. A rotation
/// makes a second Secret beside the current one, and deletes the older when nothing uses it any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slots {
    /// Counts the changes. A higher number in the ServiceAccount's annotation than in the record is another machine's.
    pub turn: u64,
    /// The generation whose token the host has.
    pub current: String,
    /// The one that is to replace it: whether the host has it was not seen yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The one that was replaced on the host, and may be in use by running jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retiring: Option<Retiring>,
}

/// A cluster token that is to be deleted when no job uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retiring {
    pub generation: String,
    /// When the host was seen to have the new token, by GitLab's clock (RFC 3339).
    pub since: String,
}

impl Slots {
    /// The next turn.
    #[must_use]
    pub fn turned(self) -> Self {
        Self { turn: self.turn.saturating_add(1), ..self }
    }

    /// Whether a rotation is unfinished.
    pub fn is_rotating(&self) -> bool {
        self.next.is_some() || self.retiring.is_some()
    }

    /// All generations, the newest first.
    pub fn generations(&self) -> Vec<&str> {
        let retiring = self.retiring.as_ref().map(|retiring| retiring.generation.as_str());
        self.next.as_deref().into_iter().chain([self.current.as_str()]).chain(retiring).collect()
    }

    /// Whether every generation can be the end of a name.
    pub fn is_plausible(&self) -> bool {
        self.generations().into_iter().all(|one| one.is_empty() || names::is_generation(one))
    }
}

/// A script that was sent to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub nonce: String,
    /// It undoes the launch script.
    #[serde(default)]
    pub undoes: bool,
}

/// The instance of create-vm, by what is needed to find it again and to know it. Written before it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Number of the AWS account.
    pub account: String,
    pub region: String,
    pub name: String,
    /// Random hex digits of its creation, also in a tag of the instance; only this record has them.
    pub nonce: String,
    /// ARN; empty until the instance was seen.
    #[serde(default)]
    pub arn: String,
    /// Public IPv4 address; empty until it has one.
    #[serde(default)]
    pub address: String,
    pub zone: String,
    pub image: String,
    pub size: String,
    /// Price of a month in US cents.
    pub cents: u64,
    /// A port may be open that is to be closed again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
    /// Name of the static IP that create-vm allocated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub static_ip: String,
    /// Its ARN; empty until it was seen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub static_ip_arn: String,
}

impl Vm {
    /// Its price, such as `7 USD a month`.
    pub fn price(&self) -> String {
        // An instance that --vm-arn names was not chosen here.
        if self.cents == 0 { "price not recorded".to_owned() } else { price(self.cents) }
    }
}

/// A monthly price in words.
pub fn price(cents: u64) -> String {
    match cents % 100 {
        0 => format!("{} USD a month", cents / 100),
        rest => format!("{}.{rest:02} USD a month", cents / 100),
    }
}

/// The record of a deployment. Unknown fields are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Schema number.
    pub schema: u32,
    /// The deployment's name.
    pub deployment: String,
    /// Random id of the first run, also in an annotation of every object.
    pub id: String,
    /// Time of the first run (RFC 3339); empty in records of earlier versions.
    #[serde(default)]
    pub created: String,
    /// The last settings, by the keys of the settings file.
    #[serde(default)]
    pub settings: BTreeMap<String, Vec<String>>,
    /// The deployment's cluster.
    #[serde(default)]
    pub cluster: ClusterIdentity,
    /// Objects that outrigger created.
    #[serde(default)]
    pub objects: Vec<Owned>,
    /// The deployment's ServiceAccounts, the current one last; the runner's mark in GitLab refers to one of them.
    #[serde(default)]
    pub anchors: Vec<Owned>,
    /// Objects whose creation was started; they may exist.
    #[serde(default)]
    pub intents: Vec<Ref>,
    /// Runner and commit in GitLab.
    #[serde(default)]
    pub gitlab: GitlabSide,
    /// Digest of the non-secret inputs of the last launch script.
    #[serde(default)]
    pub script_digest: String,
    /// Path of that script.
    #[serde(default)]
    pub script_path: Option<PathBuf>,
    /// Uid of the Secret to which that script's token is bound; empty if no script with a token was written.
    #[serde(default)]
    pub script_secret: String,
    /// Target of that script, and whether its secrets are in a separate file.
    #[serde(default)]
    pub script_target: String,
    /// Modification times of the files with credentials that are in that script; empty if there are none.
    #[serde(default)]
    pub script_credentials: String,
    /// Expiry of the newest cluster token (RFC 3339); empty if it does not expire.
    #[serde(default)]
    pub token_expires: String,
    /// The Secrets of the cluster token; `None` if only the annotation on the ServiceAccount may tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Slots>,
    /// The script that was sent to the host and whose end was not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// The instance of create-vm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Vm>,
    /// By which the host knows this machine's reservations; empty before the first one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reserver: String,
    /// The launch script was written and has not been seen to end well on the host. Its digest does not tell: new tokens
    /// do not change it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub script_due: bool,
}

impl Record {
    /// Path of a deployment's record.
    pub fn path(state_dir: &Path, deployment: &str) -> PathBuf {
        state_dir.join(format!("{deployment}.json"))
    }

    /// The names of the deployments with a record, sorted.
    pub fn names(state_dir: &Path) -> Vec<String> {
        let name = |path: PathBuf| Some(path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned());
        files::list(state_dir).into_iter().filter_map(name).collect()
    }

    /// Reads a record; `None` if it does not exist. Fails (exit 3) if other users may write the file, if it is not a
    /// record or lists an object that no deployment creates, or if another version of outrigger wrote it.
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
        if record.slots.as_ref().is_some_and(|slots| !slots.is_plausible()) {
            return Err(unusable("it names a Secret that no deployment creates".to_owned()));
        }
        // These are used in paths of requests, and deleted.
        let all = record.objects.iter().map(|owned| &owned.object).chain(&record.intents);
        if let Some(other) = all.into_iter().find(|one| !names::could_be_of(deployment, one)) {
            let why = "which is not an object of a deployment of this name";
            return Err(unusable(format!("it lists {:?}, {why}", other.to_string())));
        }
        Ok(Some(record))
    }

    /// A record with a new random id, not yet saved.
    pub fn new(deployment: &str) -> Result<Self> {
        Ok(Self {
            schema: SCHEMA,
            deployment: deployment.to_owned(),
            id: random_hex(16)?,
            created: format!("{:.0}", jiff::Timestamp::now()),
            ..Self::default()
        })
    }

    /// A new record. It keeps the commit of the pipeline file that an earlier teardown left, and takes a new id.
    pub fn begin(state_dir: &Path, deployment: &str) -> Result<Self> {
        let earlier = Self::load(state_dir, deployment)?.filter(Self::is_commit_note);
        let (gitlab, settings) = earlier.map(|note| (note.gitlab, note.settings)).unwrap_or_default();
        Ok(Self { settings, gitlab, ..Self::new(deployment)? })
    }

    /// Whether this only tells of a commit of the pipeline file, which stays after the deployment was removed.
    pub fn is_commit_note(&self) -> bool {
        self.id.is_empty() && self.gitlab.commit.is_some()
    }

    /// What stays of a deployment that is removed: the commit, and how to reach its GitLab. `None` without a commit.
    pub fn commit_note(&self) -> Option<Self> {
        let commit = self.gitlab.commit.clone()?;
        let reaches = |key: &String| {
            ["gitlabUrl", "gitlabCaFile", "gitlabTokenFile", "project"].contains(&key.as_str())
        };
        let settings = self.settings.iter().filter(|(key, _)| reaches(key));
        Some(Self {
            schema: SCHEMA,
            deployment: self.deployment.clone(),
            settings: settings.map(|(key, values)| (key.clone(), values.clone())).collect(),
            gitlab: GitlabSide {
                url: self.gitlab.url.clone(),
                commit: Some(commit),
                ..GitlabSide::default()
            },
            ..Self::default()
        })
    }

    /// Saves the record in the state directory.
    pub fn save(&self, state_dir: &Path) -> Result<()> {
        files::make_dir(state_dir)?;
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::new(Id::Internal, format!("cannot serialize the record: {error}")))?;
        text.push(b'\n');
        files::write_private(&Self::path(state_dir, &self.deployment), &text)
    }

    /// Whether it names something that was created, or may have been.
    pub fn names_something(&self) -> bool {
        let in_gitlab = !self.gitlab.is_empty() || self.gitlab.given || self.gitlab.commit.is_some();
        in_gitlab
            || !self.objects.is_empty()
            || !self.intents.is_empty()
            || self.script_path.is_some()
            || self.vm.is_some()
    }

    /// The uid recorded for an object.
    pub fn uid_of(&self, object: &Ref) -> Option<&str> {
        self.objects.iter().find(|owned| owned.object == *object).map(|owned| owned.uid.as_str())
    }

    /// Adds an object to `intents`.
    pub fn intend(&mut self, object: &Ref) {
        if !self.intents.contains(object) {
            self.intents.push(object.clone());
        }
    }

    /// Adds a created object to `objects`, and a ServiceAccount of the runner to `anchors`.
    pub fn own(&mut self, object: &Ref, uid: &str) {
        self.forget(object);
        let owned = Owned { object: object.clone(), uid: uid.to_owned() };
        let is_anchor = object.kind == ObjectKind::ServiceAccount && object.name == self.deployment;
        if is_anchor && self.anchors.last() != Some(&owned) {
            self.anchors.push(owned.clone());
        }
        self.objects.push(owned);
    }

    /// Removes an object that was deleted, or whose creation was refused.
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

/// Converts a record of an earlier version, which has the runner, its intent and its token's place in four fields.
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
    #[test]
    fn runners_of_earlier_records_are_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let made = "2026-01-01T00:00:00Z";
        let ours = |token| {
            RunnerNote::Ours(OwnedRunner { id: 7, made: made.to_owned(), token, ..OwnedRunner::default() })
        };
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
    fn saved_record_is_read_back_and_another_schema_is_refused() {
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
