//! Checks for everything that could fail later, reported together.

use std::collections::BTreeSet;

use serde_json::json;

use crate::base::error::{Command, Failure, Hint, Id, Kind, Result};
use crate::base::event::Outcome as Judgement;
use crate::base::text::count;
use crate::cluster::dry_run::{self, Look};
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
use crate::steps::looks;

/// See the module.
pub struct Preflight;

/// The observation, including failures, which are reported together.
pub struct Seen {
    kubeconfig: String,
    server: Result<String>,
    operator: Result<String>,
    rights: Result<Rights>,
    trust: Result<Trust>,
    /// Refused dry runs of a job's Secret and pod.
    jobs: Vec<Failure>,
    /// Those without a dry run, with the reason.
    unlooked: Vec<(Ref, String)>,
    gitlab: Gitlab,
    exec_plugin: Option<String>,
    /// Both namespaces exist, so that objects in them can be checked.
    complete: bool,
}

/// The checks of GitLab.
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
        // All settings that the plans of other steps depend on.
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
        let (version, operator, rights, trusted, (jobs, unlooked), gitlab) = tokio::join!(
            r.cluster.version(),
            r.cluster.operator(),
            missing_rights(r),
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
            unlooked,
            gitlab,
            exec_plugin: target.exec_plugin.clone(),
            complete: runner && job,
        })))
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Option<Box<Seen>>) -> Decided<Never> {
        let Some(seen) = seen else { return Decided::lines(Vec::new()) };
        let mut found = Found::default();
        found.pass("kubeconfig", &seen.kubeconfig);
        found.said("server", &seen.server);
        found.said("you", &seen.operator);
        match &seen.rights {
            Ok(Rights { skipped: Some(why), .. }) => {
                found.add("rights", Judgement::Skipped, why.clone(), Vec::new());
            }
            Ok(Rights { asked, denied: None, .. }) => {
                let all = format!("all {} that setup needs", count(asked.len(), "right"));
                let detail = asked.iter().filter(|_| d.run.options.verbose > 0);
                let detail = detail.map(|(place, right)| format!("{right} in {place}").into()).collect();
                found.add("rights", Judgement::Pass, all, detail);
            }
            Ok(Rights { denied: Some(failure), .. }) | Err(failure) => found.fail("rights", failure),
        }
        match &seen.trust {
            Ok(trust) => {
                let fine = trust.warnings.is_empty() && trust.unproven.is_none();
                let outcome = if fine { Judgement::Pass } else { Judgement::Warn };
                let text = format!("{} verifies {}", trust.source, trust.endpoint.url);
                let detail =
                    trust.warnings.iter().chain(&trust.unproven).map(|one| one.as_str().into()).collect();
                found.add("certificate", outcome, text, detail);
            }
            Err(failure) => found.fail("certificate", failure),
        }
        let mut warnings = Vec::new();
        // Only a warning: real job pods may differ.
        for failure in &seen.jobs {
            let said = failure.details.iter().map(|(label, text)| format!("{label}: {text}").into());
            let detail: Vec<Hint> = said.chain(failure.hints.iter().cloned()).collect();
            found.add("jobs", Judgement::Warn, failure.message.clone(), detail.clone());
            let line = Line::keep_notable(format!("job pods will be rejected: {}", failure.message));
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
        decided.forecast.unlooked.clone_from(&seen.unlooked);
        decided
    }

    async fn apply(&self, _: Writes<'_>, act: Never) -> Result<Outcome<Never>> {
        match act {}
    }

    async fn undo(&self, _: Writes<'_>, _: Vec<Never>) -> Result<String> {
        Ok(String::new())
    }

    fn done(&self, d: &Deciding<'_>, _: &Option<Box<Seen>>, _: &[Line<Never>], _: &[String]) -> String {
        verdict(d.forecast.unlooked.is_empty()).to_owned()
    }
}

/// The summary without a failure.
fn verdict(complete: bool) -> &'static str {
    if complete { "nothing in the way" } else { "nothing in the way of what can be looked at now" }
}

/// The list of checks, and the lines of those that failed.
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

    fn fail(&mut self, name: &str, failure: &Failure) {
        self.add(name, Judgement::Fail, failure.message.clone(), Vec::new());
        self.lines.push(Line::refuse(failure.clone()));
    }

    fn said(&mut self, name: &str, answer: &Result<String>) {
        match answer {
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
    // Alone, it assumes that setup will create the runner.
    let makes_runner = r.run.alone || r.run.includes(Part::Runner);
    let creates = matches!(runner::verdict(r.gitlab).await, Ok(Verdict::Create(_)));
    let obstacles = if makes_runner && !creates { Vec::new() } else { facts::obstacles(found, For::Runner) };
    Gitlab::Asked(Ok(Box::new(found.clone())), obstacles)
}

/// The findings for GitLab: version, token, project.
fn about_gitlab(run: &Run, gitlab: &Gitlab, into: &mut Found) {
    let (found, obstacles) = match gitlab {
        Gitlab::None => return,
        Gitlab::Skipped(why) => return into.add("gitlab", Judgement::Skipped, why.clone(), Vec::new()),
        Gitlab::Asked(Err(failure), _) => return into.fail("gitlab", failure),
        Gitlab::Asked(Ok(found), obstacles) => (found, obstacles),
    };
    let url = run.settings.gitlab_url.as_ref().map(|url| url.value.as_str()).unwrap_or_default();
    let version = found.version.as_deref().unwrap_or("unknown version");
    match versions(found.version.as_deref(), &run.settings.runner_version.value) {
        Ok(warning) => {
            let outcome = if warning.is_empty() { Judgement::Pass } else { Judgement::Warn };
            into.add(
                "gitlab",
                outcome,
                format!("{version} at {url}"),
                warning.into_iter().map(Hint::from).collect(),
            );
        }
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
        into.add("gitlab", Judgement::Skipped, what.clone(), Vec::new());
    }
    for failure in obstacles {
        into.fail("gitlab", failure);
    }
}

/// Checks the versions: GitLab 16.0 or later, and a gitlab-runner that is not newer than GitLab, which GitLab does not
/// support.
fn versions(gitlab: Option<&str>, runner: &str) -> Result<Vec<String>> {
    let pair = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor =
            parts.next()?.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()?;
        Some((major, minor))
    };
    let Some(gitlab) = gitlab.and_then(pair) else { return Ok(Vec::new()) };
    if gitlab < (16, 0) {
        return Err(Failure::new(
            Id::GitlabTooOld,
            format!("GitLab {}.{} is too old: outrigger needs 16.0 or later", gitlab.0, gitlab.1),
        )
        .hint("upgrade GitLab"));
    }
    match pair(runner) {
        Some(runner) if runner > gitlab => Ok(vec![format!(
            "gitlab-runner {}.{} is newer than GitLab {}.{}, which GitLab does not support: set an older --runner-version",
            runner.0, runner.1, gitlab.0, gitlab.1
        )]),
        _ => Ok(Vec::new()),
    }
}

/// Dry runs of a job's Secret and pod in an existing job namespace: the refused ones, and those not done.
async fn refused_jobs(r: Reads<'_>) -> (Vec<Failure>, Vec<(Ref, String)>) {
    let (mut refused, mut unlooked) = (Vec::new(), Vec::new());
    let namespace = Ref::cluster(ObjectKind::Namespace, &r.run.names.job_namespace);
    let there = r.cluster.read(&namespace).await.ok().flatten().is_some_and(|live| !live.is_terminating());
    if !there || in_place(r.cluster).await {
        return (refused, unlooked);
    }
    // launch-script reports a file that cannot be read.
    let extra = runner_config::read(r.run, r.intake).await.unwrap_or_default();
    let objects = [job_pod::secret(&r.run.names), job_pod::pod(r.run, &extra)];
    let looks = objects.iter().map(|object| looks::look(r.cluster, object, true));
    let looks = futures_util::future::join_all(looks).await;
    for (object, look) in objects.iter().zip(looks) {
        let why = match look {
            Look::Passes => continue,
            Look::Refused(failure) if failure.kind != Kind::Denied => {
                refused.push(failure);
                continue;
            }
            Look::Refused(_) => "you may not create pods and Secrets of jobs yourself".to_owned(),
            Look::Skipped(why) => why,
        };
        unlooked.push((object.reference.clone(), why));
    }
    (refused, unlooked)
}

/// Whether the objects of setup already exist and are ours.
async fn in_place(view: &View) -> bool {
    let names = &view.run.names;
    view.are_ours(&[names.account(), names.role(), names.role_binding()]).await
}

struct Rights {
    asked: Vec<(String, Right)>,
    denied: Option<Failure>,
    skipped: Option<String>,
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

/// One rules review per namespace, then one access review for each right that is not in it: a rules review may be
/// incomplete.
async fn missing_rights(r: Reads<'_>) -> Result<Rights> {
    let needed = needed(r.run);
    let asked: Vec<_> = needed.iter().map(|(place, right)| (where_of(place, right), right.clone())).collect();
    if in_place(r.cluster).await {
        return Ok(Rights { asked, denied: None, skipped: Some("all objects already exist".to_owned()) });
    }
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
    let unshown: Vec<_> = needed
        .into_iter()
        .filter(|(namespace, right)| {
            let held = if *namespace == r.run.names.runner_namespace { &runner } else { &job };
            !held.iter().any(|have| have.covers(right))
        })
        .collect();
    let answers = futures_util::future::join_all(unshown.iter().map(|(namespace, right)| {
        let namespace = if right.resource == "namespaces" { "" } else { namespace.as_str() };
        r.cluster.may(namespace, right)
    }))
    .await;
    let mut missing = Vec::new();
    for (one, answer) in unshown.into_iter().zip(answers) {
        if !answer.map_err(Failure::from)? {
            missing.push(one);
        }
    }
    let denied = if missing.is_empty() { None } else { Some(denied(r, &missing).await?) };
    Ok(Rights { asked, denied, skipped: None })
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
