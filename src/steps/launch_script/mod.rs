//! The script that installs and configures the runner on a new VM.

mod inputs;

use std::path::{Path, PathBuf};

use crate::base::error::{Failure, Id, Result};
use crate::base::files;
use crate::base::secret::Secret;
use crate::cluster::endpoint_ca::trust;
use crate::cluster::token::renewal;
use crate::deployment::names;
use crate::deployment::object::Object;
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::record::{Slots, TokenPlace};
use crate::deployment::run::{Part, Run};
use crate::gitlab::credentials;
use crate::gitlab::endpoint_ca::ca;
use crate::gitlab::runner::{self, Verdict};
use crate::machine::script_files::{self, Brings, Delivery};
use crate::machine::secrets_file::{self, Tokens};
use crate::machine::target;
use crate::machine::{
    GlobalSection, Installer, Method, ScriptSecrets, cache, config_entry, proxy, runner_config,
};
use crate::settings::{CacheType, Need, Source, Sourced, check};
use crate::steps::contract::{
    Decided, Deciding, Forecast, Info, Outcome, Purpose, Reads, Rollback, Script, Step, Writes, Written,
};
use inputs::{Inputs, gitlab_url, method, modified, sha256};

pub struct LaunchScript;

/// Upper bounds for the tokens' lengths in the size check: about 1,000 bytes for the cluster's, 50 for GitLab's.
const LONGEST_BEARER: usize = 1_200;
const LONGEST_RUNNER: usize = 100;

pub enum Seen {
    Setup(Box<Setup>),
    /// The lines for its files.
    Teardown(Vec<Line<PathBuf>>),
}

pub struct Setup {
    inputs: Inputs,
    /// `None` if [`lacks_source`].
    verdict: Option<Verdict>,
    /// The Secret of the cluster token.
    live: Option<Object>,
    /// The token of `--runner-token-file`.
    given: Result<Option<Secret>>,
    /// The script file exists.
    exists: bool,
    /// What the host of `--host` has; `None` without one, or if it cannot be looked at.
    on_host: Option<OnHost>,
    /// The reason why the files cannot be written.
    delivery_refusal: Option<Failure>,
}

/// What a launch script left on the host.
struct OnHost {
    /// The digest of the last script that ended well.
    digest: String,
    /// An entry with tokens is there.
    has_tokens: bool,
    /// gitlab-runner's version, if outrigger installed it; else empty.
    version: String,
}

/// Writes the script.
#[derive(Clone)]
pub struct Write {
    inputs: Inputs,
    /// The token of `--runner-token-file`; otherwise it comes from GitLab.
    given: Option<Secret>,
    brings: Brings,
    /// In an upgrade.
    back: Option<Back>,
}

/// The gitlab-runner that the host has now, as the record knows it.
#[derive(Clone)]
struct Back {
    version: String,
    sha256: Option<String>,
    binary_url: Option<String>,
    settings: Vec<(String, Option<Vec<String>>)>,
}

impl Back {
    /// `None` if outrigger did not install it, or if no SHA-256 of its binary is known.
    fn of(d: &Deciding<'_>, host: Option<&OnHost>) -> Option<Self> {
        let version = host.map(|host| host.version.clone()).filter(|version| !version.is_empty())?;
        let record = d.notes.record();
        let noted = |key: &str| record.settings.get(key).and_then(|values| values.first()).cloned();
        let is_binary = method(d.run) == Method::Binary;
        let sha256 = noted(if is_binary { "binarySha256" } else { "debSha256" })
            .filter(|_| noted("runnerVersion").as_ref() == Some(&version));
        let is_known = !is_binary || sha256.is_some();
        let mut settings: Vec<_> = ["debSha256", "binarySha256", "binaryUrl"]
            .map(|key| (key.to_owned(), record.settings.get(key).cloned()))
            .into();
        settings.push(("runnerVersion".to_owned(), Some(vec![version.clone()])));
        is_known.then(|| Self { version, sha256, binary_url: noted("binaryUrl"), settings })
    }
}

impl Step for LaunchScript {
    const INFO: Info = Info {
        name: "launch-script",
        about: "Write the script that a VM runs at first boot",
        long: "A POSIX shell script that installs gitlab-runner from its apt repository and configures one [[runners]] \
         entry. It contains two tokens, so only you can read the file; delete it after use. The target \
         (--target) determines its maximum size, who can read it there, and whether the tokens go into a separate \
         file (--secrets). --print-commands prints the commands that copy it there, --uninstall a script that \
         removes everything from a host that stays in use. outrigger compares the digest of the inputs, so a deleted \
         script is not a difference. If the inputs change and the tokens are not available, it writes an update \
         script without secrets, which keeps the tokens on the host.",
        keys: &[
            "gitlabUrl",
            "gitlabTokenFile",
            "gitlabCaFile",
            "project",
            "runnerTokenFile",
            "kubernetesHost",
            "tags",
            "image",
            "runnerVersion",
            "aptUrl",
            "keyUrl",
            "keyFingerprint",
            "installMethod",
            "debSha256",
            "binaryUrl",
            "binarySha256",
            "jobLimit",
            "cacheType",
            "cacheBucket",
            "cacheRegion",
            "cacheEndpoint",
            "cacheAccount",
            "cachePath",
            "cacheShared",
            "cacheCredentialsFile",
            "runnerHttpProxy",
            "runnerHttpsProxy",
            "runnerNoProxy",
            "runnerProxyCredentialsFile",
            "concurrent",
            "checkInterval",
            "logLevel",
            "shutdownTimeout",
            "listenAddress",
            "pullPolicy",
            "runnerConfig",
            "replaceEntry",
            "script",
            "target",
            "secrets",
            "lockMetadata",
            "namespace",
            "runnerNamespace",
            "reissue",
            "tokenLifetime",
            "accept",
        ],
        flags: &["secrets-to-stdout", "print-commands", "uninstall"],
        gitlab: Need::Runner,
        part: Some(Part::Script),
        // The script needs a tested cluster token.
        pulls_in: &[Part::Token],
        undo_needs_cluster: false,
        ..Info::DEFAULT
    };
    type Seen = Seen;
    type Act = Box<Write>;
    type Undo = PathBuf;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Seen> {
        if why == Purpose::Teardown {
            return Ok(Seen::Teardown(script_files::undo_lines(r.run, r.notes)?));
        }
        let (trust, gitlab_ca) = tokio::join!(trust(r.cluster), ca(r.gitlab));
        let extra = runner_config::read(r.run, r.intake).await?;
        let inputs = Inputs {
            context: r.cluster.target.context.clone(),
            trust: trust?.clone(),
            gitlab_ca: gitlab_ca.clone(),
            cache: cache::read(r.run, r.intake, &extra).await?,
            proxy: proxy::read(r.run, r.intake).await?,
            credentials: modified(r.run, &extra),
            extra,
            delivery: Delivery::of(r.run)?,
        };
        let writable = lacks_source(r.run).is_none();
        let verdict = if writable { Some(runner::verdict(r.gitlab).await?.clone()) } else { None };
        let live = r.cluster.read(&r.notes.token_secret(r.run)).await.map_err(Failure::from)?;
        let given = if writable { given_token(r).await } else { Ok(None) };
        let exists = inputs.delivery.script.exists();
        let delivery_refusal = inputs.delivery.check(r.run).err();
        let on_host = on_host(r).await;
        Ok(Seen::Setup(Box::new(Setup { inputs, verdict, live, given, exists, on_host, delivery_refusal })))
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Seen) -> Decided<Box<Write>> {
        let Seen::Setup(seen) = seen else { return Decided::lines(Vec::new()) };
        let line = decide(d, seen).unwrap_or_else(Line::refuse);
        let script = Script {
            digest: seen.inputs.script(d.run, None).digest(),
            is_written: line.act.is_some(),
            goes_back: line.act.as_ref().is_some_and(|act| act.back.is_some()),
        };
        Decided {
            forecast: Forecast { script: Some(script), ..Forecast::default() },
            ..Decided::lines(vec![line])
        }
    }

    fn ready(&self, run: &Run, act: &Box<Write>) -> Result<()> {
        let delivery = &act.inputs.delivery;
        if delivery.script.as_os_str() == "-" {
            return Ok(());
        }
        files::check_writable(&delivery.script)?;
        let is_beside = act.brings.is_one() || run.is_for_running_machine() || delivery.placement.separate;
        if is_beside { files::check_writable(&secrets_file::path_beside(&delivery.script)) } else { Ok(()) }
    }

    async fn apply(&self, w: Writes<'_>, act: Box<Write>) -> Result<Outcome<PathBuf>> {
        let Write { inputs, given, brings, back } = *act;
        let delivery = &inputs.delivery;
        let shown = w.products.runner_token.get();
        let runner = given.as_ref().or(shown.map(|shown| &shown.token));
        let tokens = Tokens {
            runner: runner.filter(|_| brings.runner()),
            runner_expires: shown.and_then(|shown| shown.expires.as_deref()).filter(|_| given.is_none()),
            bearer: w.products.cluster_token.get().filter(|_| brings.cluster()),
        };
        if (tokens.bearer.is_some(), tokens.runner.is_some()) != (brings.cluster(), brings.runner()) {
            return Err(Failure::new(Id::Internal, "a token for the launch script is not at hand"));
        }
        let digest = inputs.script(w.run, None).digest();
        if let Some(back) = back {
            let mut old = inputs.script(w.run, None);
            old.installer = Installer {
                version: &back.version,
                sha256: back.sha256.as_deref(),
                binary_url: back.binary_url.as_deref(),
                exact: true,
                ..old.installer
            };
            let (script, digest) = (old.render()?, old.digest());
            let _ = w.products.rollback.set(Rollback {
                version: back.version.clone(),
                settings: back.settings.clone(),
                script,
                digest,
            });
        }
        let is_up = w.run.is_for_running_machine();
        let separate = brings.is_one() || is_up || delivery.placement.separate;
        let inline = match tokens {
            Tokens { runner: Some(runner_token), runner_expires, bearer: Some(bearer_token) }
                if !separate =>
            {
                Some(ScriptSecrets { runner_token, runner_expires, bearer_token })
            }
            _ => None,
        };
        let (text, _, made) = inputs.document(w.run, inline, brings == Brings::Both && !is_up)?;
        let size = text.expose().len();
        let is_stdout = delivery.script.as_os_str() == "-";
        let to_stdout = if is_stdout {
            Some(text)
        } else {
            let beside = (separate && brings != Brings::Nothing).then_some(tokens);
            delivery.write(&w.run.names.deployment, text.expose(), beside)?;
            None
        };
        note(w, &digest, &inputs, brings).await?;
        let _ = w.products.script.set(Written { brings, to_stdout });
        let name = delivery.script.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let kind = if brings == Brings::Both {
            made.map(|made| format!(", {made}")).unwrap_or_default()
        } else {
            let what = if inputs.script(w.run, None).has_credentials() { "tokens" } else { "secrets" };
            format!(" (an update script without {what}, which keeps the tokens on the host)")
        };
        #[expect(clippy::cast_precision_loss, reason = "a few thousand bytes")]
        let kilobytes = size as f64 / 1000.0;
        Ok(if is_stdout {
            format!("{kilobytes:.1} kB to stdout{kind}")
        } else if brings.is_one() {
            let which = if brings.cluster() { "cluster" } else { "runner's" };
            format!(
                "wrote {name}, {kilobytes:.1} kB, and {name}.secrets with the {which} token, readable by you only"
            )
        } else if brings == Brings::Both && separate {
            format!("wrote {name}, {kilobytes:.1} kB, and {name}.secrets, readable by you only")
        } else {
            format!("wrote {name}, {kilobytes:.1} kB, readable by you only{kind}")
        }
        .into())
    }

    fn decide_undo(&self, _: &Deciding<'_>, seen: &Seen) -> Vec<Line<PathBuf>> {
        match seen {
            Seen::Setup(_) => Vec::new(),
            Seen::Teardown(lines) => lines.clone(),
        }
    }

    async fn undo(&self, w: Writes<'_>, acts: Vec<PathBuf>) -> Result<String> {
        let mut changed = false;
        for path in acts {
            changed |= files::remove(&path)?;
            if path.starts_with(&w.run.settings.state_dir)
                && let Some(dir) = path.parent()
            {
                files::remove_empty_dir(dir);
            }
        }
        Ok(if changed { "removed".to_owned() } else { "already gone".to_owned() })
    }
}

/// run-script says why a host cannot be looked at.
async fn on_host(r: Reads<'_>) -> Option<OnHost> {
    r.machine.host()?;
    if r.machine.vm().is_some() {
        // Its port is closed: what outrigger has seen there last is recorded, and a new VM has nothing.
        let record = r.notes.record().clone();
        let is_new = r.machine.instance().await.ok()?.is_none();
        if is_new || record.script_due {
            return Some(OnHost { digest: String::new(), has_tokens: false, version: String::new() });
        }
        let version = record.settings.get("runnerVersion").and_then(|values| values.first());
        return Some(OnHost {
            digest: r.notes.script_digest().unwrap_or_default(),
            has_tokens: true,
            version: version.cloned().unwrap_or_default(),
        });
    }
    let facts = r.machine.look().await.ok()?;
    let ended_well = facts.outcome.as_ref().filter(|outcome| outcome.result == "ok");
    Some(OnHost {
        digest: ended_well.map(|outcome| outcome.digest.clone()).unwrap_or_default(),
        has_tokens: !facts.digest.is_empty(),
        version: if facts.installed { facts.version.clone() } else { String::new() },
    })
}

/// The missing settings without which the script cannot be written.
fn lacks_source(run: &Run) -> Option<Failure> {
    if gitlab_url(run).is_none() {
        return Some(
            Failure::new(Id::MissingInput, "the launch script needs the GitLab URL")
                .hint("set --gitlab-url URL"),
        );
    }
    if method(run) != Method::Binary || sha256(run).is_some() {
        return None;
    }
    let version = &run.settings.runner_version.value;
    Some(
        Failure::new(Id::MissingInput, format!("no SHA-256 is known for the gitlab-runner {version} binary"))
            .detail("because", "outrigger verifies a binary only by its SHA-256")
            .hint("copy it from GitLab's signed release.sha256 of that version: --binary-sha256 HEX")
            .hint("or let apt verify signatures: --install-method apt"),
    )
}

/// The state of the last script, and the tokens available in this run.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each named where it is set")]
struct Due {
    /// The inputs have not changed.
    same: bool,
    /// A file with credentials was written since the script was.
    new_credentials: bool,
    /// The target or the place of the secrets has changed.
    another: bool,
    /// The host has not run this script, and it is not on this disk either.
    absent: bool,
    /// A script with both tokens is required, because a token or the target has changed, or the host has none.
    reissued: bool,
    has_cluster_token: bool,
    has_runner_token: bool,
    /// The host has both tokens, and the one that is not at hand is still valid.
    keeps_other: bool,
}

impl Due {
    fn brings(&self) -> Brings {
        match (self.has_cluster_token, self.has_runner_token) {
            (true, true) => Brings::Both,
            _ if !self.reissued => Brings::Nothing,
            (cluster, runner) => Brings::of(cluster, runner),
        }
    }
}

fn due(d: &Deciding<'_>, seen: &Setup, verdict: &Verdict) -> Due {
    let written = d.notes.script_digest();
    let live = seen.live.as_ref();
    // The token on the host is no longer valid.
    let stale = renewal::script_is_stale(d.run, d.notes, live);
    let another = written.is_some() && seen.inputs.delivery.is_another(d.notes);
    let renewed = live.is_none_or(|live| renewal::renewal(d.run, d.notes, live).is_some());
    let digest = seen.inputs.script(d.run, None).digest();
    // New tokens are not in the digest: whether the host has them is known of what was seen to run there.
    let pending = d.notes.slots().next.is_some();
    let unseen = pending || d.notes.record().script_due;
    let missing = seen.on_host.as_ref().filter(|host| !seen.exists && (host.digest != digest || unseen));
    let has_cluster_token = renewed || live.is_some_and(renewal::is_readable);
    Due {
        same: written.as_deref() == Some(digest.as_str()),
        new_credentials: has_new_credentials(d, seen),
        another,
        absent: missing.is_some(),
        reissued: !d.run.settings.reissue.is_empty()
            || (written.is_some() && stale)
            || another
            || missing.is_some_and(|host| written.is_some() && !host.has_tokens)
            || (pending && missing.is_some())
            || verdict.brings_token(),
        has_cluster_token,
        has_runner_token: d.run.settings.runner_token_file.is_some() || verdict.brings_token(),
        keeps_other: written.is_some()
            && !another
            && seen.inputs.delivery.script.as_os_str() != "-"
            && has_tokens(seen, verdict, has_cluster_token),
    }
}

/// Whether the host has the tokens of the last script, as far as can be told. A script that holds them and may not have
/// run yet is not overwritten by one that lacks them.
fn has_tokens(seen: &Setup, verdict: &Verdict, has_cluster_token: bool) -> bool {
    if let Some(host) = &seen.on_host {
        return host.has_tokens;
    }
    let is_used = match verdict {
        // Its token is in a file of the user's, too; a requested cluster token is not.
        Verdict::Given => has_cluster_token,
        Verdict::Keep { ours, .. } => !ours.runner.never_contacted() || !ours.managers.is_empty(),
        _ => false,
    };
    is_used || !seen.exists || seen.inputs.delivery.placement.separate
}

/// Whether a file with credentials is another than the one that the last script was made of, as far as this machine's
/// record tells.
fn has_new_credentials(d: &Deciding<'_>, seen: &Setup) -> bool {
    let (noted, now) = (&d.notes.record().script_credentials, &seen.inputs.credentials);
    let was = |word: &str| noted.split(' ').any(|noted| noted == word);
    let name = |word: &str| word.split('=').next().map(|name| format!("{name}=")).unwrap_or_default();
    now.split(' ').any(|word| !word.is_empty() && noted.contains(&name(word)) && !was(word))
}

/// The line of the script, or the failure that prevents writing it.
fn decide(d: &Deciding<'_>, seen: &Setup) -> Result<Line<Box<Write>>> {
    let written = d.notes.script_digest().is_some();
    if gitlab_url(d.run).is_none() && written {
        return Ok(Line::not_checked("comparing the script takes --gitlab-url"));
    }
    if let Some(failure) = lacks_source(d.run) {
        return Err(failure);
    }
    let Some(verdict) = &seen.verdict else { return Ok(Line::not_checked("the runner is not known")) };
    let due = due(d, seen, verdict);
    if is_kept(d, seen, &due) {
        let gone = seen.inputs.delivery.script.as_os_str() != "-" && !seen.exists;
        return Ok(Line::keep(match (gone, d.run.alone) {
            (true, true) => {
                "kept (the file is gone, as it should be after use; --script FILE writes it again)"
            }
            (true, false) => "kept (the file is gone, as it should be after use)",
            (false, _) => "kept",
        }));
    }
    if (!written || (due.reissued && !due.keeps_other)) && !due.has_runner_token {
        return Err(lacks_runner_token(&due, verdict));
    }
    if due.reissued && !due.has_cluster_token && !due.keeps_other {
        let message = "a script with a new runner token also needs the cluster token";
        return Err(Failure::new(Id::MissingInput, message)
            .detail("because", "a requested one is known to its host alone")
            .hint("reissue both tokens: --reissue all"));
    }
    // Refused before anything is created.
    let given = seen.given.clone()?;
    if let Some(failure) = &seen.delivery_refusal {
        return Err(failure.clone());
    }
    let brings = due.brings();
    let starts_it = brings == Brings::Both && !d.run.is_for_running_machine();
    let size_warning = check_size(d.run, &seen.inputs, starts_it)?;
    let custom_prefix = given.as_ref().is_some_and(has_custom_prefix);
    let (delivery, ca_note) = (&seen.inputs.delivery, seen.inputs.gitlab_ca.note.clone());
    let text = format!("{} ({})", delivery.script.display(), secrets_text(d.run, &seen.inputs, brings));
    let back = Back::of(d, seen.on_host.as_ref()).filter(|_| d.run.upgrade);
    let act = Box::new(Write { inputs: seen.inputs.clone(), given, brings, back });
    let line = Line::new(if written { Decision::Update } else { Decision::Create }, text, act)
        .about(Target::File(delivery.script.clone()));
    let line = delivery.about(line, starts_it).detail(installs(d.run));
    let mut line = size_warning.into_iter().chain(ca_note).fold(line, Line::detail);
    if written && !due.reissued {
        line = line.detail(if due.same && due.new_credentials {
            "a file with its credentials has changed: run it on the host again"
        } else if due.same {
            "run it on the host again"
        } else {
            "its inputs have changed: run it on the host again"
        });
    }
    if custom_prefix {
        line = line.detail("the runner's token has an instance-specific prefix: gitlab-runner will not renew it, and `gitlab-runner unregister` on the host would delete the runner in GitLab");
    }
    Ok(additions(d.run, &seen.inputs).into_iter().fold(line, Line::detail))
}

/// Renders the script with the longest tokens: a warning about its size, or OR0711 if it is too long.
fn check_size(run: &Run, inputs: &Inputs, with_secrets: bool) -> Result<Option<String>> {
    let (runner_token, bearer_token) =
        (Secret::new("x".repeat(LONGEST_RUNNER)), Secret::new("x".repeat(LONGEST_BEARER)));
    let inline = (with_secrets && !inputs.delivery.placement.separate).then_some(ScriptSecrets {
        runner_token: &runner_token,
        bearer_token: &bearer_token,
        runner_expires: None,
    });
    Ok(inputs.document(run, inline, with_secrets)?.1)
}

fn secrets_text(run: &Run, inputs: &Inputs, brings: Brings) -> String {
    let has_credentials = inputs.script(run, None).has_credentials();
    let none = if has_credentials { "credentials, no tokens" } else { "no secrets" };
    let name = secrets_file::path_beside(&inputs.delivery.script);
    let name = name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match brings {
        Brings::Nothing => return format!("{none}; keeps the tokens on the host"),
        Brings::Cluster => {
            return format!(
                "{none}; {name} next to it contains the cluster token; the runner's stays on the host"
            );
        }
        Brings::Runner => {
            return format!(
                "{none}; {name} next to it contains the runner's token; the cluster's stays on the host"
            );
        }
        Brings::Both if run.is_for_running_machine() => {
            return format!("{none}; {name} next to it contains both tokens");
        }
        Brings::Both => {}
    }
    match inputs.delivery.secrets().as_deref().and_then(Path::file_name) {
        None if has_credentials => "contains two secrets and credentials".to_owned(),
        None => "contains two secrets".to_owned(),
        Some(name) => format!("{none}; {} next to it contains both tokens", name.to_string_lossy()),
    }
}

/// The user's additions to the runner's entry, and the settings of the installation that are not the defaults.
fn additions(run: &Run, inputs: &Inputs) -> Vec<String> {
    let settings = &run.settings;
    let added = config_entry::added(&inputs.extra);
    let mut lines = as_a_whole(run);
    lines.extend(cache_line(run));
    lines.extend(proxy_line(run));
    if !added.is_empty() {
        lines.push(format!("--runner-config adds {}", added.join(", ")));
    }
    lines.extend(settings.binary_url.as_ref().map(|url| given_by("--binary-url", url)));
    let defaults = [
        (&settings.apt_url, "--apt-url"),
        (&settings.key_url, "--key-url"),
        (&settings.key_fingerprint, "--key-fingerprint"),
    ];
    let changed = defaults.iter().filter(|(value, _)| value.source != Source::Default);
    lines.extend(changed.map(|(value, flag)| given_by(flag, value)));
    lines
}

fn cache_line(run: &Run) -> Option<String> {
    let settings = &run.settings;
    let kind = settings.cache_type.as_ref().filter(|kind| kind.value != CacheType::None)?;
    let bucket = settings.cache_bucket.as_ref().map_or("", |bucket| bucket.value.as_str());
    let by = if settings.cache_credentials_file.is_some() {
        "with the credentials of --cache-credentials-file, which are in the script"
    } else {
        "with the VM's identity, so that the runner may reach the metadata service"
    };
    Some(format!("the jobs' cache: {} {bucket}, {by}", kind.value))
}

fn proxy_line(run: &Run) -> Option<String> {
    let settings = &run.settings;
    let [http, https] = proxy::given(settings);
    let mut parts = Vec::new();
    parts.extend(http.map(|url| given_by("--runner-http-proxy", url)));
    parts.extend(https.map(|url| given_by("--runner-https-proxy", url)));
    if parts.is_empty() {
        return None;
    }
    if !settings.runner_no_proxy.is_empty() {
        parts.push(format!("--runner-no-proxy {}", settings.runner_no_proxy.join(",")));
    }
    if settings.runner_proxy_credentials_file.is_some() {
        parts.push("its password is in the script".to_owned());
    }
    Some(parts.join(", "))
}

/// The settings of gitlab-runner as a whole.
fn as_a_whole(run: &Run) -> Vec<String> {
    let settings = &run.settings;
    let global = GlobalSection::of(settings);
    let mut given: Vec<_> = global.given().iter().map(|(key, value)| format!("{key} = {value}")).collect();
    given.extend(global.listen_address.map(|address| format!("listen_address {address}")));
    let mut lines = Vec::new();
    if !given.is_empty() {
        let unless = if target::of(*settings.target).is_host() {
            ", unless the host has another gitlab-runner already"
        } else {
            ""
        };
        lines.push(format!("for the whole gitlab-runner{unless}: {}", given.join(", ")));
    }
    if global.listen_address.is_some() {
        lines.push(
            "whoever reaches that address reads metrics, the list of running jobs and profiles: it has no authentication"
                .to_owned(),
        );
    }
    if let Some(number) = global.concurrent.filter(|number| *number < settings.job_limit.value) {
        lines.push(format!(
            "at most {number} jobs at once, although --job-limit is {}",
            settings.job_limit.value
        ));
    }
    lines
}

/// Whether the last script is still current.
fn is_kept(d: &Deciding<'_>, seen: &Setup, due: &Due) -> bool {
    let settings = &d.run.settings;
    let by_flag = |source: &Source| matches!(source, Source::Flag(_));
    let asked_again =
        d.run.alone && settings.script.as_ref().is_some_and(|script| by_flag(&script.source)) && !seen.exists;
    // replaceEntry is not part of the digest.
    let to_replace = settings.replace_entry && settings.sources.get("replaceEntry").is_some_and(by_flag);
    // An upgrade needs its way back.
    let upgrades = d.run.upgrade
        && seen
            .on_host
            .as_ref()
            .is_some_and(|host| check::is_older(&host.version, &settings.runner_version.value));
    due.same
        && !upgrades
        && !due.new_credentials
        && !due.reissued
        && !due.absent
        && !asked_again
        && !to_replace
}

fn lacks_runner_token(due: &Due, verdict: &Verdict) -> Failure {
    let message = "the launch script needs the runner authentication token (glrt-…)";
    let mut failure = Failure::new(Id::MissingInput, message);
    if due.another {
        let why = "for another target, or with its secrets elsewhere, the whole script is due";
        failure = failure.detail("because", why);
    }
    match verdict {
        Verdict::Keep { .. } => failure
            .detail("because", "GitLab shows it once, and it is already in an earlier script")
            .hint("reissue both tokens: --reissue all; or use the current one: --runner-token-file PATH"),
        _ => failure.hint(
            "put it into a file that only you can read and set --runner-token-file PATH, or let setup create the runner: --gitlab-token-file PATH --project PATH|ID",
        ),
    }
}

fn installs(run: &Run) -> String {
    let known = if sha256(run).is_some() { "its SHA-256 is verified" } else { "its SHA-256 is not known" };
    match method(run) {
        Method::Binary => format!("installs the gitlab-runner binary; {known}"),
        method => format!("installs gitlab-runner by {} from a signed repository; {known}", method.word()),
    }
}

/// A setting with its source.
fn given_by(flag: &'static str, value: &Sourced<String>) -> String {
    match &value.source {
        Source::Flag(_) => format!("{flag} {}", value.value),
        source => format!("{flag} {} ({source})", value.value),
    }
}

/// Reads the runner authentication token from its file.
async fn given_token(r: Reads<'_>) -> Result<Option<Secret>> {
    let Some(path) = &r.run.settings.runner_token_file else { return Ok(None) };
    let token = credentials::read_secret(r.intake, &path.value, "runner token").await?;
    credentials::check_runner_token(&token)?;
    Ok(Some(token))
}

/// Whether the instance has its own prefix before `glrt-`, which gitlab-runner 19 does not recognise.
fn has_custom_prefix(token: &Secret) -> bool {
    let text = token.expose();
    text.contains("-glrt-") && !text.starts_with("glrt-")
}

/// Notes the written script in the record, and on the ServiceAccount for other machines.
async fn note(w: Writes<'_>, digest: &str, inputs: &Inputs, brings: Brings) -> Result<()> {
    let delivery = &inputs.delivery;
    let secret = w.cluster.read(&w.notes.token_secret(w.run)).await.map_err(Failure::from)?;
    let has_host = w.machine.host().is_some();
    w.journal.write(|record| {
        digest.clone_into(&mut record.script_digest);
        record.script_target = delivery.noted();
        record.script_due = has_host;
        inputs.credentials.clone_into(&mut record.script_credentials);
        // If create-runner wrote that file, the runner belongs to the deployment.
        let owned = record.gitlab.owned();
        let in_file = owned.is_some_and(|runner| runner.token == TokenPlace::InFile);
        if w.run.settings.runner_token_file.is_some() {
            record.gitlab.given = !in_file;
        } else if owned.is_some() {
            record.gitlab.given = false;
        }
        if !record.gitlab.given && brings.runner() {
            record.gitlab.token_is(TokenPlace::InScript);
        }
        record.script_path =
            (delivery.script.as_os_str() != "-").then(|| script_files::absolute(&delivery.script));
        if brings.cluster()
            && let Some(secret) = &secret
        {
            secret.uid().clone_into(&mut record.script_secret);
        }
    })?;
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let annotations = {
        let record = w.notes.record();
        let gitlab = &record.gitlab;
        let runner = gitlab.owned().map(|runner| runner.id.to_string());
        let runner = runner.or_else(|| gitlab.given.then(|| names::GIVEN.to_owned()));
        serde_json::json!({
            names::SETTINGS: Run::settings_note(&record.settings),
            names::SCRIPT_DIGEST: digest,
            names::SCRIPT_SECRET: some(&record.script_secret),
            names::SCRIPT_TARGET: record.script_target,
            names::RUNNER: runner,
            names::TOKEN_EXPIRES: some(&record.token_expires),
            names::TOKEN_SLOTS: record.slots.as_ref().filter(|slots| **slots != Slots::default())
                .and_then(|slots| serde_json::to_string(slots).ok()),
        })
    };
    w.cluster.annotate(annotations).await
}

#[cfg(test)]
mod tests;
