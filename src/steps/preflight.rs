//! Checks for everything that could fail later, reported together.

use std::collections::BTreeSet;

use serde_json::json;

use crate::base::error::{Command, Failure, Hint, Id, Kind, Result};
use crate::base::event::Outcome as Judgement;
use crate::base::text::count;
use crate::cluster::dry_run::{self, DryRun};
use crate::cluster::endpoint_ca::{Trust, trust};
use crate::cluster::rights::{self, Right};
use crate::cluster::view::View;
use crate::cluster::{Class, Refusal, job_pod};
use crate::deployment::object::{Kind as ObjectKind, Ref};
use crate::deployment::plan::Line;
use crate::deployment::run::{Part, Run};
use crate::gitlab::facts::{self, Instance, Purpose as For, instance};
use crate::gitlab::runner::{self, Verdict};
use crate::machine::runner_config;
use crate::settings::shell_word;
use crate::steps::contract::{
    Decided, Deciding, Finding, Info, Never, Outcome, Purpose, Reads, Step, Writes,
};
use crate::steps::dry_runs;

pub struct Preflight;

/// With all failures, which are reported together.
pub struct Seen {
    kubeconfig: String,
    server: Result<String>,
    operator: Result<String>,
    rights: Result<Rights>,
    trust: Result<Trust>,
    /// Refused dry runs of a job's Secret and pod.
    jobs: Vec<Failure>,
    /// Secret and pod without a dry run, with the reason.
    unchecked: Vec<(Ref, String)>,
    gitlab: Gitlab,
    exec_plugin: Option<String>,
    /// Both namespaces exist, so that objects in them can be checked.
    complete: bool,
}

enum Gitlab {
    /// No GitLab URL is set.
    None,
    /// Not needed in this run; the reason.
    Skipped(String),
    /// GitLab's responses, and obstacles to creating the runner.
    Asked(Result<Box<Instance>>, Vec<Failure>),
}

impl Step for Preflight {
    const INFO: Info = Info {
        name: "preflight",
        about: "Check everything that could fail later; changes nothing",
        long: "Checks the API server's version, your identity and each right that setup needs (-v lists them); verifies the \
         certificate as the runner does; and plans every step of setup, including whether you may grant the Role. \
         All problems are reported together. It never writes.",
        // All settings that other steps use.
        keys: &[
            "namespace",
            "runnerNamespace",
            "useNamespaces",
            "podSecurity",
            "namespaceLabels",
            "namespaceAnnotations",
            "kubernetesHost",
            "tokenLifetime",
            "gitlabUrl",
            "gitlabTokenFile",
            "gitlabCaFile",
            "project",
            "group",
            "instanceRunner",
            "runnerVersion",
            "runnerTokenFile",
            "tags",
            "script",
            "accept",
            "clusterAdmin",
            "keepAdminBinding",
            "forceConflicts",
            "host",
            "hostKeys",
            "sshOptions",
        ],
        surveys: true,
        ..Info::DEFAULT
    };
    type Seen = Option<Box<Seen>>;
    type Act = Never;
    type Undo = Never;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Option<Box<Seen>>> {
        if why == Purpose::Teardown {
            return Ok(None);
        }
        let (version, operator, rights, trusted, (jobs, unchecked), gitlab) = tokio::join!(
            r.cluster.version(),
            r.cluster.operator(),
            check_rights(r),
            trust(r.cluster),
            refused_jobs(r),
            gitlab(r),
        );
        let target = &r.cluster.target;
        let files: Vec<_> = target.files.iter().map(|file| file.display().to_string()).collect();
        let names = &r.run.names;
        let (runner, job) = tokio::join!(
            r.cluster.takes_objects(&names.runner_namespace),
            r.cluster.takes_objects(&names.job_namespace)
        );
        Ok(Some(Box::new(Seen {
            kubeconfig: format!("context {} of {}", target.context, files.join(", ")),
            server: version.map(|version| format!("{version} at {}", target.endpoint.url)),
            operator: operator.map(|operator| operator.name.clone()),
            rights,
            trust: trusted.cloned(),
            jobs,
            unchecked,
            gitlab,
            exec_plugin: target.exec_plugin.clone(),
            complete: runner && job,
        })))
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Option<Box<Seen>>) -> Decided<Never> {
        let Some(seen) = seen else { return Decided::lines(Vec::new()) };
        let mut found = Found::default();
        found.pass("kubeconfig", &seen.kubeconfig);
        found.result("server", &seen.server);
        found.result("you", &seen.operator);
        match &seen.rights {
            Ok(Rights::InPlace) => found.skip("rights", "all objects already exist"),
            Ok(Rights::Granted(rights)) => {
                let text = format!("all {} that setup needs", count(rights.len(), "right"));
                let detail = rights.iter().filter(|_| d.run.options.verbose > 0);
                found.add(
                    "rights",
                    Judgement::Pass,
                    text,
                    detail.map(|(place, right)| format!("{right} in {place}").into()).collect(),
                );
            }
            Ok(Rights::Denied(failure)) | Err(failure) => found.fail("rights", failure),
        }
        match &seen.trust {
            Ok(trust) => {
                let text = format!("{} verifies {}", trust.source, trust.endpoint.url);
                found.warn("certificate", &text, trust.warnings.iter().chain(&trust.unproven));
            }
            Err(failure) => found.fail("certificate", failure),
        }
        let mut warnings = Vec::new();
        // Only a warning: real job pods may differ.
        for failure in &seen.jobs {
            let said = failure.details.iter().map(|(label, text)| format!("{label}: {text}").into());
            let detail: Vec<Hint> = said.chain(failure.hints.iter().cloned()).collect();
            found.add("jobs", Judgement::Warn, failure.message.clone(), detail.clone());
            let line = Line::warning(format!("job pods will be rejected: {}", failure.message));
            warnings.push(detail.into_iter().fold(line, Line::detail));
        }
        about_gitlab(d.run, &seen.gitlab, &mut found);
        if let Some(plugin) = &seen.exec_plugin {
            found.pass("exec plugin", plugin);
        }
        let Found { findings, mut lines } = found;
        if lines.is_empty() {
            lines.push(Line::keep(verdict(seen.complete)));
        }
        lines.extend(warnings);
        let mut decided = Decided::lines(lines);
        decided.findings = findings;
        decided.forecast.unchecked.clone_from(&seen.unchecked);
        decided
    }

    async fn apply(&self, _: Writes<'_>, act: Never) -> Result<Outcome<Never>> {
        match act {}
    }

    async fn undo(&self, _: Writes<'_>, _: Vec<Never>) -> Result<String> {
        Ok(String::new())
    }

    fn done(&self, d: &Deciding<'_>, _: &Option<Box<Seen>>, _: &[Line<Never>], _: &[String]) -> String {
        verdict(d.forecast.unchecked.is_empty()).to_owned()
    }
}

/// The summary without failures; `complete` if everything could be checked.
fn verdict(complete: bool) -> &'static str {
    if complete { "nothing in the way" } else { "nothing in the way of what can be looked at now" }
}

/// The checks, and the lines of failed ones.
#[derive(Default)]
struct Found {
    findings: Vec<Finding>,
    lines: Vec<Line<Never>>,
}

impl Found {
    fn add(&mut self, name: &str, outcome: Judgement, text: impl Into<String>, detail: Vec<Hint>) {
        self.findings.push(Finding { name: name.to_owned(), outcome, text: text.into(), detail });
    }

    fn pass(&mut self, name: &str, text: &str) {
        self.add(name, Judgement::Pass, text, Vec::new());
    }

    fn skip(&mut self, name: &str, why: &str) {
        self.add(name, Judgement::Skipped, why, Vec::new());
    }

    /// Passes, with warnings.
    fn warn<'a>(&mut self, name: &str, text: &str, warnings: impl Iterator<Item = &'a String>) {
        self.pass(name, text);
        for warning in warnings {
            self.add(name, Judgement::Warn, warning, Vec::new());
        }
    }

    fn fail(&mut self, name: &str, failure: &Failure) {
        self.add(name, Judgement::Fail, failure.message.clone(), Vec::new());
        self.lines.push(Line::refuse(failure.clone()));
    }

    fn result(&mut self, name: &str, result: &Result<String>) {
        match result {
            Ok(text) => self.pass(name, text),
            Err(failure) => self.fail(name, failure),
        }
    }
}

/// Checks GitLab, if this run uses its API.
async fn gitlab(r: Reads<'_>) -> Gitlab {
    let skipped = |why: &str| match r.run.settings.gitlab_url {
        Some(_) => Gitlab::Skipped(why.to_owned()),
        None => Gitlab::None,
    };
    if !r.gitlab.is_connected() {
        return skipped(r.gitlab.why_not());
    }
    let concerned = r.run.alone
        || r.run.includes(Part::Commit)
        || r.run.includes(Part::Pipeline)
        || !matches!(runner::verdict(r.gitlab).await, Ok(Verdict::Given));
    if !concerned {
        return skipped("--runner-token-file is set");
    }
    let found = match instance(r.gitlab).await {
        Ok(found) => found,
        Err(failure) => return Gitlab::Asked(Err(failure), Vec::new()),
    };
    // Without other steps, it assumes that setup will create the runner.
    let makes_runner = r.run.alone || r.run.includes(Part::Runner);
    let creates = matches!(runner::verdict(r.gitlab).await, Ok(Verdict::Create(_)));
    let obstacles = if makes_runner && !creates { Vec::new() } else { facts::obstacles(found, For::Runner) };
    Gitlab::Asked(Ok(Box::new(found.clone())), obstacles)
}

/// The findings for GitLab: version, token, project.
fn about_gitlab(run: &Run, gitlab: &Gitlab, into: &mut Found) {
    let (found, obstacles) = match gitlab {
        Gitlab::None => return,
        Gitlab::Skipped(why) => return into.skip("gitlab", why),
        Gitlab::Asked(Err(failure), _) => return into.fail("gitlab", failure),
        Gitlab::Asked(Ok(found), obstacles) => (found, obstacles),
    };
    let url = run.settings.gitlab_url.as_ref().map(|url| url.value.as_str()).unwrap_or_default();
    let version = found.version.as_deref().unwrap_or("unknown version");
    match versions(found.version.as_deref(), &run.settings.runner_version.value) {
        Ok(warning) => into.warn("gitlab", &format!("{version} at {url}"), warning.iter()),
        Err(failure) => into.fail("gitlab", &failure),
    }
    if let Some(token) = &found.token {
        let scopes = if token.granular { "fine-grained".to_owned() } else { token.scopes.join(", ") };
        let until = token.expires.as_ref().map(|day| format!(", until {day}")).unwrap_or_default();
        into.pass("gitlab token", &format!("{} ({scopes}){until}", token.name));
    }
    if let Some(project) = &found.project {
        let role = project.access.map(|access| format!(", you are {}", access.word())).unwrap_or_default();
        into.pass("project", &format!("{}{role}", project.shown()));
    }
    for what in &found.skipped {
        into.skip("gitlab", what);
    }
    for failure in obstacles {
        into.fail("gitlab", failure);
    }
}

/// Fails for a GitLab before 16.0, and warns of a gitlab-runner that is newer than GitLab, which GitLab does not
/// support.
fn versions(gitlab: Option<&str>, runner: &str) -> Result<Option<String>> {
    let pair = |text: &str| -> Option<(u32, u32)> {
        let (major, rest) = text.split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let Some(gitlab) = gitlab.and_then(pair) else { return Ok(None) };
    if gitlab < (16, 0) {
        return Err(Failure::new(
            Id::GitlabTooOld,
            format!("GitLab {}.{} is too old: outrigger needs 16.0 or later", gitlab.0, gitlab.1),
        )
        .hint("upgrade GitLab"));
    }
    match pair(runner) {
        Some(runner) if runner > gitlab => Ok(Some(format!(
            "gitlab-runner {}.{} is newer than GitLab {}.{}, which GitLab does not support: set an older --runner-version",
            runner.0, runner.1, gitlab.0, gitlab.1
        ))),
        _ => Ok(None),
    }
}

/// Dry runs of a job's Secret and pod in an existing job namespace: the refusals, and the objects without a dry run.
async fn refused_jobs(r: Reads<'_>) -> (Vec<Failure>, Vec<(Ref, String)>) {
    let (mut refused, mut unchecked) = (Vec::new(), Vec::new());
    let namespace = Ref::cluster(ObjectKind::Namespace, &r.run.names.job_namespace);
    let exists = r.cluster.read(&namespace).await.ok().flatten().is_some_and(|live| !live.is_terminating());
    if !exists || in_place(r.cluster).await {
        return (refused, unchecked);
    }
    // launch-script reports a file that cannot be read.
    let extra = runner_config::read(r.run, r.intake).await.unwrap_or_default();
    let objects = [job_pod::secret(&r.run.names), job_pod::pod(r.run, &extra)];
    let results = objects.iter().map(|object| dry_runs::one(r.cluster, object, true));
    let results = futures_util::future::join_all(results).await;
    for (object, result) in objects.iter().zip(results) {
        let why = match result {
            DryRun::Passes => continue,
            DryRun::Refused(failure) if failure.kind != Kind::Denied => {
                refused.push(failure);
                continue;
            }
            DryRun::Refused(_) => "you may not create pods and Secrets of jobs yourself".to_owned(),
            DryRun::Skipped(why) => why,
        };
        unchecked.push((object.reference.clone(), why));
    }
    (refused, unchecked)
}

/// Whether ServiceAccount, Role and RoleBinding already exist and belong to the deployment.
async fn in_place(view: &View) -> bool {
    let names = &view.run.names;
    view.are_ours(&[names.account(), names.role(), names.role_binding()]).await
}

/// The rights that setup needs.
enum Rights {
    /// Not checked: all objects already exist.
    InPlace,
    /// All of them, with their namespace or "the cluster".
    Granted(Vec<(String, Right)>),
    Denied(Failure),
}

/// The rights that setup needs, by namespace, without those that `bind-admin` checks.
fn needed(run: &Run) -> Vec<(String, Right)> {
    let names = &run.names;
    let rbac = "rbac.authorization.k8s.io";
    let mut list = Vec::new();
    let mut want = |namespace: &str, group: &str, resource: &str, verbs: &[&str]| {
        list.extend(verbs.iter().map(|verb| (namespace.to_owned(), Right::new(group, resource, verb))));
    };
    let runner = &names.runner_namespace;
    let job = &names.job_namespace;
    want(runner, "", "namespaces", &["get"]);
    if !run.is_used(runner) || !run.is_used(job) {
        want(runner, "", "namespaces", &["create"]);
    }
    want(runner, "", "serviceaccounts", &["get", "create", "patch"]);
    want(runner, "", "secrets", &["get", "create"]);
    if run.settings.token_lifetime.is_some() {
        want(runner, "", "serviceaccounts/token", &["create"]);
    }
    want(job, "", "serviceaccounts", &["get", "create", "patch"]);
    want(job, rbac, "roles", &["get", "create"]);
    want(job, rbac, "rolebindings", &["get", "create"]);
    list
}

/// One rules review per namespace, then one access review for each right that is not in it, because a rules review may
/// be incomplete.
async fn check_rights(r: Reads<'_>) -> Result<Rights> {
    if in_place(r.cluster).await {
        return Ok(Rights::InPlace);
    }
    let needed = needed(r.run);
    let places: Vec<_> =
        needed.iter().map(|(place, right)| (where_of(place, right), right.clone())).collect();
    let review = |namespace: String| async move {
        let spec = json!({"namespace": namespace});
        r.cluster
            .review("review your rights", "authorization.k8s.io", "SelfSubjectRulesReview", spec)
            .await
            .map(|status| rights::rights(&status["resourceRules"]))
    };
    let (runner, job) =
        tokio::join!(review(r.run.names.runner_namespace.clone()), review(r.run.names.job_namespace.clone()));
    let (runner, job) = (or_none(runner)?, or_none(job)?);
    let unlisted: Vec<_> = needed
        .into_iter()
        .filter(|(namespace, right)| {
            let held = if *namespace == r.run.names.runner_namespace { &runner } else { &job };
            !held.iter().any(|have| have.covers(right))
        })
        .collect();
    let answers = futures_util::future::join_all(unlisted.iter().map(|(namespace, right)| {
        let namespace = if right.resource == "namespaces" { "" } else { namespace.as_str() };
        r.cluster.may(namespace, right)
    }))
    .await;
    let mut missing = Vec::new();
    for (one, answer) in unlisted.into_iter().zip(answers) {
        if !answer.map_err(Failure::from)? {
            missing.push(one);
        }
    }
    Ok(if missing.is_empty() { Rights::Granted(places) } else { Rights::Denied(denied(r, &missing).await?) })
}

fn or_none(answer: Result<BTreeSet<Right>, Refusal>) -> Result<BTreeSet<Right>> {
    match answer {
        Ok(rights) => Ok(rights),
        Err(refusal) if refusal.class == Class::Forbidden => Ok(BTreeSet::new()),
        Err(refusal) => Err(refusal.into()),
    }
}

fn where_of(namespace: &str, right: &Right) -> String {
    if right.resource == "namespaces" { "the cluster".to_owned() } else { namespace.to_owned() }
}

/// `OpenShift` users request projects instead of creating namespaces.
const PROJECTS: &str = "project.openshift.io";

async fn denied(r: Reads<'_>, missing: &[(String, Right)]) -> Result<Failure> {
    let who = r.cluster.operator().await.map(|operator| operator.name.clone()).unwrap_or_default();
    let mut failure =
        Failure::new(Id::MissingRights, format!("{who} lacks {}", count(missing.len(), "right")));
    for (namespace, right) in missing {
        failure = failure.detail(format!("in {}", where_of(namespace, right)), right.to_string());
    }
    failure = failure.hint("ask an administrator for them, or use another context: --context NAME");
    if !missing.iter().any(|(_, right)| right.resource == "namespaces" && right.verb == "create") {
        return Ok(failure);
    }
    let request = Right::new(PROJECTS, "projectrequests", "create");
    if !r.cluster.may("", &request).await.map_err(Failure::from)? {
        return Ok(dry_run::made_by_others(&r.run.settings, failure));
    }
    let mut text = "or request the namespaces as projects, which include rights in them";
    for namespace in r.run.names.namespaces().iter().filter(|one| !r.run.is_used(&one.name)) {
        let command = Command::Whole(format!("oc new-project {}", shell_word(&namespace.name)));
        failure = failure.hint((std::mem::take(&mut text), command));
    }
    Ok(failure.hint(dry_run::with_used_namespaces(&r.run.settings)))
}

#[cfg(test)]
#[path = "preflight_tests.rs"]
mod tests;
