//! The profiles of `~/.aws/config` and `~/.aws/credentials`, and the way to credentials that each of them describes
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/creds-config-files.html>).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_config::profile::ProfileSet;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_types::os_shim_internal::{Env, Fs};

use super::endpoint::set;
use super::keys::Keys;
use crate::base::error::{Failure, Id, Result};
use crate::base::files::Intake;
use crate::base::secret::Secret;

/// Bytes of the file of settings at most; that of keys may have 1 MiB, too.
const LONGEST: u64 = 1024 * 1024;
/// Roles assumed one after the other at most.
const MOST_ROLES: usize = 8;

/// The profiles of both files.
pub(super) struct Profiles {
    set: ProfileSet,
    /// The files, for messages.
    files: String,
}

/// The credentials that a profile begins with.
#[derive(Clone, Debug)]
pub(super) enum Base {
    Keys(Keys),
    Environment,
    /// A command for the shell, which may contain a password.
    Process(Secret),
    Sso {
        account: String,
        role: String,
        start_url: String,
        region: String,
        session: Option<String>,
    },
    WebIdentity {
        file: PathBuf,
        role: String,
        session: Option<String>,
    },
    Ec2,
    Container,
    /// What AWS's library does not know: the AWS CLI resolves the whole profile. The name of the setting.
    Cli(&'static str),
}

/// The setting of a role for which AWS asks for a code of a multi-factor device.
pub(super) const MFA: &str = "mfa_serial";

/// A role to assume.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub arn: String,
    pub external_id: Option<String>,
    pub session: Option<String>,
    pub duration: Option<Duration>,
}

/// The way to a profile's credentials.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub base: Base,
    /// Assumed in this order.
    pub roles: Vec<Role>,
}

impl Profiles {
    /// Reads both files, if they exist. Fails with OR0212 (exit 2) for a file that is not one of AWS's.
    pub async fn read(env: &BTreeMap<String, String>, intake: &Intake) -> Result<Self> {
        let home = set(env, "HOME").map(Path::new);
        let place = |variable: &str, name: &str| match set(env, variable) {
            Some(given) => match (given.strip_prefix("~/"), home) {
                (Some(rest), Some(home)) => Some(home.join(rest)),
                _ => Some(PathBuf::from(given)),
            },
            None => home.map(|home| home.join(".aws").join(name)),
        };
        let config = place("AWS_CONFIG_FILE", "config");
        let keys = place("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        // Without any file, there are no profiles.
        let mut files = EnvConfigFiles::builder().with_contents(EnvConfigFileKind::Config, "");
        let mut shown = Vec::new();
        for (path, kind) in [(config, EnvConfigFileKind::Config), (keys, EnvConfigFileKind::Credentials)] {
            let Some(path) = path else { continue };
            let bytes = match kind {
                EnvConfigFileKind::Config => intake.aims(&path, LONGEST).await?,
                EnvConfigFileKind::Credentials => intake.secret_file(&path).await?,
            };
            shown.push(path.display().to_string());
            let Some(bytes) = bytes else { continue };
            let unusable = |why: String| {
                Failure::new(Id::AwsSettings, format!("cannot read the AWS profiles in {}", path.display()))
                    .detail("because", why)
            };
            let text = std::str::from_utf8(&bytes).map_err(|_| unusable("it is not UTF-8".to_owned()))?;
            // Alone first, so that a mistake has the name of its file.
            let alone = EnvConfigFiles::builder().with_contents(kind, text).build();
            parsed(&alone).await.map_err(unusable)?;
            files = files.with_contents(kind, text);
        }
        let whole = parsed(&files.build()).await;
        let set = whole.map_err(|why| {
            Failure::new(Id::AwsSettings, "cannot read the AWS profiles").detail("because", why)
        })?;
        let files = if shown.is_empty() { "no file: HOME is not set".to_owned() } else { shown.join(", ") };
        Ok(Self { set, files })
    }

    /// The files, for messages.
    pub fn files(&self) -> &str {
        &self.files
    }

    pub fn has(&self, name: &str) -> bool {
        self.set.get_profile(name).is_some()
    }

    /// The names, at most 20 of them.
    pub fn names(&self) -> String {
        let mut names: Vec<&str> = self.set.profiles().collect();
        names.sort_unstable();
        names.truncate(20);
        names.join(", ")
    }

    pub fn region(&self, name: &str) -> Option<String> {
        self.get(name, "region").map(str::to_owned)
    }

    /// Whether the profile describes credentials at all.
    pub fn describes_credentials(&self, name: &str) -> bool {
        const SETTINGS: &[&str] = &[
            "aws_access_key_id",
            "aws_secret_access_key",
            "role_arn",
            "credential_process",
            "credential_source",
            "sso_session",
            "sso_start_url",
            "sso_account_id",
            "web_identity_token_file",
            "login_session",
        ];
        SETTINGS.iter().any(|setting| self.get(name, setting).is_some())
    }

    fn get(&self, name: &str, setting: &str) -> Option<&str> {
        self.set.get_profile(name)?.get(setting).map(str::trim).filter(|value| !value.is_empty())
    }

    /// The way to the profile's credentials. Fails with the reason.
    pub fn way(&self, name: &str) -> Result<Way, String> {
        let mut roles = Vec::new();
        let mut seen = Vec::new();
        let mut at = name;
        let base = loop {
            if seen.contains(&at) {
                return Err(format!("source_profile leads from {} back to {at:?}", seen.join(" to ")));
            }
            if !self.has(at) {
                return Err(format!("the source_profile {at:?} does not exist"));
            }
            seen.push(at);
            let get = |setting| self.get(at, setting);
            // A source may have keys beside a role of its own; then its keys are meant.
            if seen.len() > 1 && get("aws_access_key_id").is_some() && get("aws_secret_access_key").is_some()
            {
                break self.keys(at)?;
            }
            let role = get("role_arn").filter(|_| get("web_identity_token_file").is_none());
            let Some(role) = role else { break self.base(at)? };
            if get(MFA).is_some() {
                break Base::Cli(MFA);
            }
            if roles.len() == MOST_ROLES {
                return Err(format!("it assumes more than {MOST_ROLES} roles"));
            }
            let duration = get("duration_seconds").map(|text| {
                let seconds = text.parse().ok().filter(|seconds| (900..=43_200).contains(seconds));
                seconds.map(Duration::from_secs).ok_or("duration_seconds is not from 900 to 43200")
            });
            roles.push(Role {
                arn: role.to_owned(),
                external_id: get("external_id").map(str::to_owned),
                session: get("role_session_name").map(str::to_owned),
                duration: duration.transpose()?,
            });
            match (get("source_profile"), get("credential_source")) {
                (Some(_), Some(_)) => {
                    return Err(format!("the profile {at:?} has both source_profile and credential_source"));
                }
                (None, None) => {
                    return Err(format!(
                        "the profile {at:?} has role_arn without source_profile or credential_source"
                    ));
                }
                (Some(next), None) if next == at => break self.base(at)?,
                (Some(next), None) => at = next,
                (None, Some(_)) => break self.base(at)?,
            }
        };
        roles.reverse();
        Ok(Way { base, roles })
    }

    /// The order is that of AWS's library.
    fn base(&self, name: &str) -> Result<Base, String> {
        let get = |setting| self.get(name, setting).map(str::to_owned);
        let need = |setting| get(setting).ok_or(format!("the profile {name:?} lacks {setting}"));
        if let Some(source) = get("credential_source") {
            return match source.as_str() {
                "Environment" => Ok(Base::Environment),
                "Ec2InstanceMetadata" => Ok(Base::Ec2),
                "EcsContainer" => Ok(Base::Container),
                _ => Err(format!("credential_source {source:?} is not one that AWS knows")),
            };
        }
        if let Some(file) = get("web_identity_token_file") {
            let (role, session) = (need("role_arn")?, get("role_session_name"));
            return Ok(Base::WebIdentity { file: file.into(), role, session });
        }
        if ["sso_session", "sso_start_url", "sso_account_id", "sso_role_name"]
            .iter()
            .any(|one| get(one).is_some())
        {
            return self.sso(name);
        }
        if get("login_session").is_some() {
            return Ok(Base::Cli("login_session"));
        }
        match get("credential_process") {
            Some(command) => Ok(Base::Process(Secret::new(command))),
            None => self.keys(name),
        }
    }

    fn sso(&self, name: &str) -> Result<Base, String> {
        let need = |setting| {
            let value = self.get(name, setting).map(str::to_owned);
            value.ok_or(format!("the profile {name:?} lacks {setting}"))
        };
        let (start_url, region, session) = match self.get(name, "sso_session") {
            None => (need("sso_start_url")?, need("sso_region")?, None),
            Some(session) => {
                let found = self.set.sso_session(session);
                let found = found.ok_or(format!("there is no section [sso-session {session}]"))?;
                let of = |setting| {
                    let value = found.get(setting).map(str::to_owned);
                    value.ok_or(format!("the section [sso-session {session}] lacks {setting}"))
                };
                (of("sso_start_url")?, of("sso_region")?, Some(session.to_owned()))
            }
        };
        Ok(Base::Sso {
            account: need("sso_account_id")?,
            role: need("sso_role_name")?,
            start_url,
            region,
            session,
        })
    }

    fn keys(&self, name: &str) -> Result<Base, String> {
        let need = |setting| self.get(name, setting).ok_or(format!("the profile {name:?} lacks {setting}"));
        let (id, secret) = (need("aws_access_key_id")?, need("aws_secret_access_key")?);
        let keys = Keys::new(id, secret, self.get(name, "aws_session_token"), None);
        keys.map(Base::Keys).map_err(|why| format!("in the profile {name:?} {why}"))
    }
}

async fn parsed(files: &EnvConfigFiles) -> Result<ProfileSet, String> {
    // Neither the process's environment nor its files: the contents are given.
    let (fs, env) = (Fs::from_slice(&[]), Env::from_slice(&[]));
    let read = aws_config::profile::load(&fs, &env, files, None).await;
    read.map_err(|error| crate::base::answer::innermost(&error))
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
