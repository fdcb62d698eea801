//! Credentials from the one source that was named, or from the first that is there. A source that fails never leads to
//! another: a wrong identity is worse than none.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, SystemTime};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sso::SsoCredentialsProvider;
use aws_config::sts::AssumeRoleProvider;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_async::rt::sleep::default_async_sleep;
use aws_smithy_async::time::SystemTimeSource;

use super::Source;
use super::call::Unsigned;
use super::child;
use super::endpoint::{self, given, set};
use super::http::Client;
use super::keys::Keys;
use super::profile::{Base, MFA, Profiles, Way};
use super::sign;
use crate::base::error::{Command, Failure, Id, Result};
use crate::base::request::Limits;
use crate::base::template::shell_word;

/// Between a setting of a profile and why there is no AWS CLI for it.
const NEEDS_CLI: &str = " needs version 2 of the AWS CLI: ";

/// For all requests and programs of one resolution.
const TIME: Duration = Duration::from_secs(90);
/// Credentials that end within so many seconds are resolved anew.
const MARGIN: i64 = 60;

/// The source, and what it gave last.
pub(super) struct Credentials {
    way: Way,
    /// The profile, if it is one.
    profile: Option<String>,
    /// The source and its files, for messages.
    shown: String,
    renewal: Option<String>,
    region: String,
    env: BTreeMap<String, String>,
    client: Client,
    /// For roles.
    sts: Option<String>,
    held: RefCell<Option<Keys>>,
}

/// A source that was chosen.
struct Chosen {
    way: Way,
    profile: Option<String>,
    shown: String,
}

impl Credentials {
    /// Chooses source and region without a request. Fails with OR0211 and OR0212 (exit 2), OR0426 (exit 4).
    pub async fn find(from: &Source, region: Option<&str>, _: &Limits) -> Result<Self> {
        let env = &from.env;
        let profiles = Profiles::read(env, &from.intake).await?;
        let chosen = choose(from, &profiles)?;
        let settings = chosen.profile.as_deref().unwrap_or("default");
        let given_region = region.map(|region| ("the given region", region.to_owned()));
        let region = given_region
            .or_else(|| set(env, "AWS_REGION").map(|region| ("AWS_REGION", region.to_owned())))
            .or_else(|| {
                set(env, "AWS_DEFAULT_REGION").map(|region| ("AWS_DEFAULT_REGION", region.to_owned()))
            })
            .or_else(|| profiles.region(settings).map(|region| ("the profile's region", region)));
        let Some((where_from, region)) = region else {
            return Err(Failure::new(Id::AwsSettings, "no AWS region is set")
                .detail(
                    "looked at",
                    format!(
                        "AWS_REGION, AWS_DEFAULT_REGION, the profile {settings:?} in {}",
                        profiles.files()
                    ),
                )
                .hint("name the region: --vm-region REGION"));
        };
        if !is_region(&region) {
            return Err(Failure::new(
                Id::AwsSettings,
                format!("invalid AWS region {region:?} ({where_from})"),
            )
            .detail("because", "it must have a form such as eu-central-1")
            .hint("name the region: --vm-region REGION"));
        }
        let renewal = match (&chosen.way.base, &chosen.profile) {
            (Base::Sso { .. }, Some(profile)) => {
                Some(format!("aws sso login --profile {}", shell_word(profile)))
            }
            (Base::Cli("login_session"), Some(profile)) => {
                Some(format!("aws login --profile {}", shell_word(profile)))
            }
            // It asks for the code, and keeps the credentials of the role until they expire.
            (Base::Cli(MFA), Some(profile)) => {
                Some(format!("aws sts get-caller-identity --profile {}", shell_word(profile)))
            }
            _ => None,
        };
        let roots = endpoint::trust(env, &from.intake).await?;
        Ok(Self {
            client: Client::new(roots, env, from.metadata),
            sts: given(env, "AWS_ENDPOINT_URL_STS")?.map(String::from),
            env: env.clone(),
            way: chosen.way,
            profile: chosen.profile,
            shown: chosen.shown,
            renewal,
            region,
            held: RefCell::default(),
        })
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// The source, for people.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The command after which the source has new credentials.
    pub fn renewal(&self) -> Option<&str> {
        self.renewal.as_deref()
    }

    /// Resolves them for the first time. Fails with OR0426 or OR0429 (exit 4), with OR0102 on a signal.
    pub async fn check(&self, limits: &Limits) -> Result<()> {
        let work = tokio::time::timeout(limits.deadline.remaining(), self.keys());
        match limits.cancel.unless_requested(work).await? {
            Ok(keys) => keys.map(drop),
            Err(_) => Err(self.failed(Id::AwsCredentials, "the run's --timeout has expired")),
        }
    }

    /// The credentials, new ones if those at hand end soon.
    pub async fn keys(&self) -> Result<Keys> {
        let held = self.held.borrow().clone();
        if let Some(keys) = held.filter(|keys| !keys.ends_within(MARGIN)) {
            return Ok(keys);
        }
        let resolved = tokio::time::timeout(TIME, self.resolve()).await;
        let resolved =
            resolved.unwrap_or_else(|_| Err(format!("it gave nothing within {} s", TIME.as_secs())));
        let keys = resolved.map_err(|why| self.failed(self.kind(&why), &why))?;
        if keys.ends_within(0) {
            return Err(self.failed(Id::AwsExpired, "the credentials that it gave have already expired"));
        }
        self.held.replace(Some(keys.clone()));
        Ok(keys)
    }

    /// Drops these credentials, which AWS calls expired; whether the source may have others.
    pub fn forget(&self, keys: &Keys) -> bool {
        let is_fixed =
            matches!(self.way.base, Base::Keys(_) | Base::Environment) && self.way.roles.is_empty();
        if is_fixed {
            return false;
        }
        let mut held = self.held.borrow_mut();
        if held.as_ref().is_some_and(|held| held.id.expose() == keys.id.expose()) {
            *held = None;
        }
        true
    }

    /// Signs with the time of the system's clock.
    #[expect(clippy::unused_self, reason = "the signature of the other build")]
    pub fn sign(&self, keys: &Keys, request: &Unsigned<'_>) -> Result<Vec<(String, String)>> {
        sign::sign(keys, request, SystemTime::now())
    }

    fn kind(&self, why: &str) -> Id {
        let why = why.to_lowercase();
        let ended = [
            "expired",
            "cached sso token",
            "sso login",
            "no such file",
            "not found",
            "unauthorized",
            "mfa code",
        ];
        let is_login = self.renewal.is_some() && ended.iter().any(|word| why.contains(word));
        if is_login || why.contains("expired") { Id::AwsExpired } else { Id::AwsCredentials }
    }

    fn failed(&self, id: Id, why: &str) -> Failure {
        let failure = Failure::new(id, format!("cannot get AWS credentials from {}", self.shown))
            .detail("because", why);
        match (&self.way.base, &self.renewal, &self.profile) {
            (Base::Cli(_), _, _) if why.contains(NEEDS_CLI) => {
                failure.hint("install version 2 of the AWS CLI, or use a profile of another form")
            }
            (Base::Cli(MFA), Some(command), _) => {
                failure.hint(("enter an MFA code in the AWS CLI", Command::Whole(command.clone())))
            }
            (_, Some(command), _) => failure.hint(("log in again", Command::Whole(command.clone()))),
            (Base::Process(_), _, Some(profile)) => failure.hint((
                "its output is not shown, as it may contain a key; to see what it says",
                Command::Whole(format!("aws sts get-caller-identity --profile {}", shell_word(profile))),
            )),
            _ => {
                failure.hint("outrigger uses this source alone: correct it, or name another with AWS_PROFILE")
            }
        }
    }

    async fn resolve(&self) -> Result<Keys, String> {
        if let Base::Cli(setting) = &self.way.base {
            let profile = self.profile.as_deref().unwrap_or("default");
            let lacks = |why| format!("{setting}{NEEDS_CLI}{why}");
            let cli = child::version_2(&self.env).await.map_err(lacks)?;
            return child::export(&cli, profile, &self.env).await;
        }
        let mut keys = self.base().await?;
        for role in &self.way.roles {
            let mut builder = AssumeRoleProvider::builder(&role.arn).configure(&self.sdk());
            if let Some(id) = &role.external_id {
                builder = builder.external_id(id);
            }
            builder = builder.session_name(role.session.as_deref().unwrap_or("outrigger"));
            if let Some(duration) = role.duration {
                builder = builder.session_length(duration);
            }
            let provider = builder.build_from_provider(keys.for_library()).await;
            let assumed = ask(&provider).await;
            keys =
                assumed.map_err(|why| format!("cannot assume the role {}: {}", role.arn, keys.mask(&why)))?;
        }
        Ok(keys)
    }

    async fn base(&self) -> Result<Keys, String> {
        match &self.way.base {
            Base::Keys(keys) => Ok(keys.clone()),
            Base::Environment => {
                environment(&self.env)?.ok_or_else(|| "AWS_ACCESS_KEY_ID is not set".to_owned())
            }
            Base::Process(command) => child::process(command.expose(), &self.env).await,
            Base::Sso { account, role, start_url, region, session } => {
                let mut builder = SsoCredentialsProvider::builder()
                    .configure(&self.provider())
                    .account_id(account)
                    .role_name(role)
                    .start_url(start_url)
                    .region(Region::new(region.clone()));
                builder.set_session_name(session.clone());
                ask(&builder.build()).await
            }
            Base::WebIdentity { file, role, session } => {
                let provider = WebIdentityTokenCredentialsProvider::builder()
                    .configure(&self.provider())
                    .static_configuration(StaticConfiguration {
                        web_identity_token_file: file.clone(),
                        role_arn: role.clone(),
                        session_name: session.clone().unwrap_or_else(|| "outrigger".to_owned()),
                    })
                    .build();
                ask(&provider).await
            }
            Base::Ec2 => {
                let provider = ImdsCredentialsProvider::builder().configure(&self.provider()).build();
                ask(&provider).await
            }
            Base::Container => {
                let provider = EcsCredentialsProvider::builder().configure(&self.provider()).build();
                ask(&provider).await
            }
            Base::Cli(_) => Err("the AWS CLI resolves it".to_owned()),
        }
    }

    /// For AWS's library: this client, this region.
    fn provider(&self) -> ProviderConfig {
        ProviderConfig::without_region()
            .with_region(Some(Region::new(self.region.clone())))
            .with_http_client(self.client.clone())
    }

    fn sdk(&self) -> SdkConfig {
        let mut builder = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .http_client(self.client.clone())
            .time_source(SystemTimeSource::new());
        builder.set_sleep_impl(default_async_sleep());
        builder.set_endpoint_url(self.sts.clone());
        builder.build()
    }
}

fn is_region(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    text.len() <= 32 && text.split('-').count() >= 3 && text.split('-').all(part)
}

/// The source: a profile that is named, the environment, the default profile, and the metadata services if they are
/// allowed.
fn choose(from: &Source, profiles: &Profiles) -> Result<Chosen> {
    let env = &from.env;
    let named = match &from.profile {
        Some(profile) => Some((profile.as_str(), "as given")),
        None => set(env, "AWS_PROFILE").map(|profile| (profile, "AWS_PROFILE")),
    };
    if let Some((profile, how)) = named {
        if !profiles.has(profile) {
            let failure =
                Failure::new(Id::AwsSettings, format!("there is no AWS profile {profile:?} ({how})"))
                    .detail("looked in", profiles.files());
            let names = profiles.names();
            return Err(if names.is_empty() { failure } else { failure.detail("profiles there", names) });
        }
        return of_profile(from, profiles, profile);
    }
    let chosen = |base, shown: &str| Chosen {
        way: Way { base, roles: Vec::new() },
        profile: None,
        shown: shown.to_owned(),
    };
    let unusable = |why: String| {
        Failure::new(Id::AwsSettings, "the AWS credentials in the environment cannot be used")
            .detail("because", why)
    };
    if let Some(keys) = environment(env).map_err(unusable)? {
        return Ok(chosen(Base::Keys(keys), "the environment (AWS_ACCESS_KEY_ID)"));
    }
    if let Some(file) = set(env, "AWS_WEB_IDENTITY_TOKEN_FILE") {
        let role = set(env, "AWS_ROLE_ARN");
        let role = role.ok_or_else(|| {
            unusable("AWS_WEB_IDENTITY_TOKEN_FILE is set, and AWS_ROLE_ARN is not".to_owned())
        })?;
        let session = set(env, "AWS_ROLE_SESSION_NAME").map(str::to_owned);
        let base = Base::WebIdentity { file: file.into(), role: role.to_owned(), session };
        return Ok(chosen(base, &format!("the environment (AWS_WEB_IDENTITY_TOKEN_FILE={file})")));
    }
    if profiles.describes_credentials("default") {
        return of_profile(from, profiles, "default");
    }
    if from.metadata {
        let container = ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
        return Ok(match container.iter().find(|name| set(env, name).is_some()) {
            Some(name) => chosen(Base::Container, &format!("the container's metadata service ({name})")),
            None => chosen(Base::Ec2, "the metadata service of this EC2 instance"),
        });
    }
    Err(Failure::new(Id::NoAwsCredentials, "there are no AWS credentials")
        .detail(
            "looked at",
            format!(
                "AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE, the profile \"default\" in {}",
                profiles.files()
            ),
        )
        .hint("name a profile: AWS_PROFILE=NAME")
        .hint(("or make one", Command::Whole("aws configure sso".to_owned()))))
}

fn of_profile(from: &Source, profiles: &Profiles, name: &str) -> Result<Chosen> {
    let shown = format!("the profile {name:?} ({})", profiles.files());
    let unusable = |why: String| {
        Failure::new(Id::AwsSettings, format!("cannot use the AWS profile {name:?}"))
            .detail("because", why)
            .detail("read from", profiles.files())
    };
    let way = profiles.way(name).map_err(unusable)?;
    if matches!(way.base, Base::Ec2 | Base::Container) && !from.metadata {
        return Err(unusable(
            "its credential_source is a metadata service, which is asked on request only".to_owned(),
        )
        .hint("allow it: --aws-metadata"));
    }
    Ok(Chosen { way, profile: Some(name.to_owned()), shown })
}

/// The keys in the environment; `None` if there are none. Fails if there is only one half.
fn environment(env: &BTreeMap<String, String>) -> Result<Option<Keys>, String> {
    match (set(env, "AWS_ACCESS_KEY_ID"), set(env, "AWS_SECRET_ACCESS_KEY")) {
        (None, None) => Ok(None),
        (Some(id), Some(secret)) => Keys::new(id, secret, set(env, "AWS_SESSION_TOKEN"), None).map(Some),
        (Some(_), None) => Err("AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not".to_owned()),
        (None, Some(_)) => Err("AWS_SECRET_ACCESS_KEY is set, and AWS_ACCESS_KEY_ID is not".to_owned()),
    }
}

/// Asks a provider of AWS's library. The error is its chain of causes.
async fn ask(provider: &impl ProvideCredentials) -> Result<Keys, String> {
    let given = provider.provide_credentials().await.map_err(|error| causes(&error))?;
    Keys::from_library(&given).map_err(|why| format!("it gave invalid credentials: {why}"))
}

/// The causes of an error that are not repeated by the next, bounded.
fn causes(error: &dyn Error) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next.filter(|_| told.len() < 12) {
        let text: String = error.to_string().chars().take(400).collect();
        if !told.iter().any(|before| before.contains(&text)) {
            told.push(text);
        }
        next = error.source();
    }
    told.join(": ")
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
