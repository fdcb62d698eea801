//! Everything that could fail later, found now and reported at once.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Done, Pending, Step, count};
use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::event::{Event, Outcome};
use crate::cluster::Refusal;
use crate::cluster::dry_run::{self, Look};
use crate::cluster::endpoint_ca::trust;
use crate::cluster::job_pod;
use crate::cluster::rights::{self, Right};
use crate::deployment::object::{Kind as ObjectKind, Ref};
use crate::deployment::plan::{Act, Decision, Line};
use crate::gitlab::facts::{self, Purpose, instance};
use crate::gitlab::runner::{self, Verdict};
use crate::settings::shell_word;
use crate::steps::context::Context;
use crate::steps::looks;

/// See the module.
pub struct Preflight;

impl Step for Preflight {
    fn name(&self) -> &'static str {
        "preflight"
    }
    fn about(&self) -> &'static str {
        "Check everything that could fail later; changes nothing"
    }
    fn long(&self) -> &'static str {
        "Asks the API server who you are, what it is, and for each right that the run will need (-v names them); \
         judges the certificate as the runner will; and lets every step of setup look and decide, the question \
         whether you may grant the Role among them. All that is wrong is reported at once. It never writes."
    }
    fn keys(&self) -> &'static [&'static str] {
        // Whatever decides about another step's plan: preflight shows how each of them would fare.
        &[
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
        ]
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> Pending<'a, Vec<Line>> {
        Box::pin(async move {
            let (version, operator, rights, trusted, jobs, ()) = tokio::join!(
                cx.version(),
                cx.operator(),
                missing_rights(cx),
                trust(cx),
                refused_jobs(cx),
                // Asked beside the cluster; what it says is looked at below.
                async {
                    if concerns_gitlab(cx).await {
                        let _ = instance(cx).await;
                    }
                },
            );
            let files: Vec<_> = cx.target.files.iter().map(|file| file.display().to_string()).collect();
            let kubeconfig = format!("context {} of {}", cx.target.context, files.join(", "));
            let mut checks = vec![pass("kubeconfig", kubeconfig)];
            let (mut lines, mut warnings) = (Vec::new(), Vec::new());
            match &version {
                Ok(version) => {
                    checks.push(pass("server", format!("{version} at {}", cx.target.endpoint.url)));
                }
                Err(failure) => fail(&mut checks, &mut lines, "server", failure),
            }
            match operator {
                Ok(operator) => checks.push(pass("you", operator.name.clone())),
                Err(failure) => fail(&mut checks, &mut lines, "you", &failure),
            }
            match rights {
                Ok(Rights { asked, missing, skipped }) => {
                    if let Some(why) = skipped {
                        checks.push(check("rights", Outcome::Skipped, why, Vec::new()));
                    } else if missing.is_empty() {
                        let all = format!("all {} that setup needs of you", count(asked.len(), "right"));
                        let detail = asked.iter().filter(|_| cx.options.verbose > 0);
                        let detail = detail.map(|(place, right)| format!("{right} in {place}")).collect();
                        checks.push(check("rights", Outcome::Pass, all, detail));
                    } else {
                        let failure = denied(cx, &missing).await?;
                        fail(&mut checks, &mut lines, "rights", &failure);
                    }
                }
                Err(failure) => fail(&mut checks, &mut lines, "rights", &failure),
            }
            match trusted {
                Ok(trust) => {
                    let outcome = if trust.warnings.is_empty() && trust.unproven.is_none() {
                        Outcome::Pass
                    } else {
                        Outcome::Warn
                    };
                    let detail = trust.warnings.iter().chain(&trust.unproven).cloned().collect();
                    checks.push(check(
                        "certificate",
                        outcome,
                        format!("{} verifies {}", trust.source, trust.endpoint.url),
                        detail,
                    ));
                }
                Err(failure) => fail(&mut checks, &mut lines, "certificate", &failure),
            }
            // What is asked about only resembles a job, so that this is a warning.
            for failure in jobs {
                let said = failure.details.iter().map(|(label, text)| format!("{label}: {text}"));
                let detail: Vec<_> = said.chain(failure.hints.iter().cloned()).collect();
                checks.push(check("jobs", Outcome::Warn, failure.message.clone(), detail.clone()));
                let line = Line::keep_stricter(format!("jobs will be refused: {}", failure.message));
                warnings.push(detail.into_iter().fold(line, Line::detail));
            }
            gitlab(cx, &mut checks, &mut lines).await;
            if let Some(plugin) = &cx.target.exec_plugin {
                checks.push(pass("exec plugin", plugin.clone()));
            }
            for event in &checks {
                cx.facts.checks.borrow_mut().push(event.clone());
            }
            if lines.is_empty() {
                // The other steps look at the same time: what they could not ask is known before they do.
                let [runner, job] = [&cx.names.runner_namespace, &cx.names.job_namespace];
                let (runner, job) = tokio::join!(looks::is_there(cx, runner), looks::is_there(cx, job));
                lines.push(Line::new(Decision::Keep, verdict(runner && job), Act::None));
            }
            lines.extend(warnings);
            Ok(lines)
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context, _lines: &'a [Line]) -> Pending<'a, Done> {
        Box::pin(async {
            let complete = cx.facts.unlooked.borrow().is_empty();
            Ok(Done { changed: false, text: verdict(complete).to_owned() })
        })
    }
}

/// What is said where nothing was found; of what nobody could look at, nothing is.
fn verdict(complete: bool) -> &'static str {
    if complete { "nothing in the way" } else { "nothing in the way of what can be looked at now" }
}

fn check(name: &str, outcome: Outcome, text: impl Into<String>, detail: Vec<String>) -> Event {
    Event::Check { name: name.to_owned(), outcome, text: text.into(), detail }
}

fn pass(name: &str, text: impl Into<String>) -> Event {
    check(name, Outcome::Pass, text, Vec::new())
}

fn fail(checks: &mut Vec<Event>, lines: &mut Vec<Line>, name: &str, failure: &Failure) {
    checks.push(check(name, Outcome::Fail, failure.message.clone(), Vec::new()));
    lines.push(Line::refuse(failure.clone()));
}

/// Whether this run has anything to do at GitLab's API: a runner whose token is given needs nothing there.
async fn concerns_gitlab(cx: &Context) -> bool {
    if cx.gitlab.client.is_none() {
        return false;
    }
    cx.facts.alone.get()
        || cx.is_selected("commit-pipeline")
        || cx.is_selected("run-pipeline")
        || !matches!(runner::verdict(cx).await, Ok(Verdict::Given))
}

/// GitLab's side: who the token is, what it may do, whether GitLab and the runner go together.
async fn gitlab(cx: &Context, checks: &mut Vec<Event>, lines: &mut Vec<Line>) {
    if !concerns_gitlab(cx).await {
        if cx.settings.gitlab_url.is_some() {
            let why =
                if cx.gitlab.client.is_none() { &cx.gitlab.why_not } else { "the runner's token is given" };
            checks.push(check("gitlab", Outcome::Skipped, why, Vec::new()));
        }
        return;
    }
    let found = match instance(cx).await {
        Ok(found) => found,
        Err(failure) => return fail(checks, lines, "gitlab", &failure),
    };
    let url = cx.settings.gitlab_url.as_ref().map(|url| url.value.as_str()).unwrap_or_default();
    let version = found.version.as_deref().unwrap_or("version not known");
    match versions(found.version.as_deref(), &cx.settings.runner_version.value) {
        Ok(warning) => {
            let outcome = if warning.is_empty() { Outcome::Pass } else { Outcome::Warn };
            checks.push(check("gitlab", outcome, format!("{version} at {url}"), warning));
        }
        Err(failure) => fail(checks, lines, "gitlab", &failure),
    }
    if let Some(token) = &found.token {
        let scopes = if token.granular { "fine-grained".to_owned() } else { token.scopes.join(", ") };
        let until = token.expires.as_ref().map(|day| format!(", until {day}")).unwrap_or_default();
        checks.push(pass("gitlab token", format!("{} ({scopes}){until}", token.name)));
    }
    if let Some(project) = &found.project {
        let role = project.access.map(|access| format!(", you are {}", access.word())).unwrap_or_default();
        checks.push(pass("project", format!("{}{role}", project.shown())));
    }
    for what in &found.skipped {
        checks.push(check("gitlab", Outcome::Skipped, what.clone(), Vec::new()));
    }
    // Alone it cannot know what is to come; a run knows its steps.
    let makes_runner = cx.facts.alone.get() || cx.is_selected("create-runner");
    if makes_runner && !matches!(runner::verdict(cx).await, Ok(Verdict::Create(_))) {
        return;
    }
    for failure in facts::obstacles(found, Purpose::Runner) {
        fail(checks, lines, "gitlab", &failure);
    }
}

/// Whether a GitLab and a gitlab-runner go together: an older runner works with a newer GitLab, the
/// reverse is not promised; runners are made this way since GitLab 16.
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
            format!("GitLab {}.{} is too old: runners are created this way since 16.0", gitlab.0, gitlab.1),
        )
        .hint("upgrade GitLab"));
    }
    match pair(runner) {
        Some(runner) if runner > gitlab => Ok(vec![format!(
            "gitlab-runner {}.{} is newer than GitLab {}.{}, which is not promised to work: --runner-version chooses another",
            runner.0, runner.1, gitlab.0, gitlab.1
        )]),
        _ => Ok(Vec::new()),
    }
}

/// What the rules of a job namespace that is there already say to a job's Secret and pod: refusals that
/// setup itself would never meet.
async fn refused_jobs(cx: &Context) -> Vec<Failure> {
    let namespace = Ref::cluster(ObjectKind::Namespace, &cx.names.job_namespace);
    let there = cx.read(&namespace).await.ok().flatten().is_some_and(|live| !live.is_terminating());
    if !there || in_place(cx).await {
        return Vec::new();
    }
    // What cannot be read is said by launch-script.
    let _ = crate::steps::inputs::read_extra(cx).await;
    let objects = [job_pod::secret(cx), job_pod::pod(cx)];
    let looks = objects.iter().map(|object| looks::look(cx, object, true));
    let looks = futures_util::future::join_all(looks).await;
    let mut refused = Vec::new();
    for (object, look) in objects.iter().zip(looks) {
        let why = match look {
            Look::Passes => continue,
            Look::Refused(failure) if failure.kind != Kind::Denied => {
                refused.push(failure);
                continue;
            }
            Look::Refused(_) => "you may not create a job's pod or Secret yourself".to_owned(),
            Look::NotLooked(why) => why,
        };
        cx.facts.unlooked.borrow_mut().push((object.reference.clone(), why));
    }
    refused
}

/// Whether what setup makes in the cluster is there already, and ours.
async fn in_place(cx: &Context) -> bool {
    cx.are_ours(&[cx.names.account(), cx.names.role(), cx.names.role_binding()]).await
}

struct Rights {
    asked: Vec<(String, Right)>,
    missing: Vec<(String, Right)>,
    skipped: Option<String>,
}

/// The rights that setup uses, by namespace. What `bind-admin` has to find out is not among them.
fn needed(cx: &Context) -> Vec<(String, Right)> {
    let names = &cx.names;
    let rbac = "rbac.authorization.k8s.io";
    let mut list = Vec::new();
    let mut want = |namespace: &str, group: &str, resource: &str, verbs: &[&str]| {
        list.extend(verbs.iter().map(|verb| (namespace.to_owned(), Right::new(group, resource, verb))));
    };
    let runner = &names.runner_namespace;
    let job = &names.job_namespace;
    want(runner, "", "namespaces", &["get"]);
    if !cx.is_used(runner) || !cx.is_used(job) {
        want(runner, "", "namespaces", &["create"]);
    }
    want(runner, "", "serviceaccounts", &["get", "create", "patch"]);
    want(runner, "", "secrets", &["get", "create"]);
    if cx.settings.token_lifetime.is_some() {
        want(runner, "", "serviceaccounts/token", &["create"]);
    }
    want(job, "", "serviceaccounts", &["get", "create", "patch"]);
    want(job, rbac, "roles", &["get", "create"]);
    want(job, rbac, "rolebindings", &["get", "create"]);
    list
}

/// One rules review per namespace; what it does not show is asked for one by one, because a review
/// may be incomplete and a right limited to names does not show as itself.
async fn missing_rights(cx: &Context) -> Result<Rights> {
    let needed = needed(cx);
    let asked: Vec<_> = needed.iter().map(|(place, right)| (where_of(place, right), right.clone())).collect();
    if in_place(cx).await {
        return Ok(Rights {
            asked,
            missing: Vec::new(),
            skipped: Some("everything is in place already".to_owned()),
        });
    }
    let review = |namespace: String| async move {
        let spec = json!({"namespace": namespace});
        cx.cluster
            .review(
                "ask for your rights",
                "authorization.k8s.io",
                "selfsubjectrulesreviews",
                "SelfSubjectRulesReview",
                spec,
            )
            .await
            .map(|status| rights::rights(&status["resourceRules"]))
    };
    let (runner, job) =
        tokio::join!(review(cx.names.runner_namespace.clone()), review(cx.names.job_namespace.clone()));
    let (runner, job) = (or_none(runner)?, or_none(job)?);
    let unshown: Vec<_> = needed
        .into_iter()
        .filter(|(namespace, right)| {
            let held = if *namespace == cx.names.runner_namespace { &runner } else { &job };
            !held.iter().any(|have| have.covers(right))
        })
        .collect();
    let answers = futures_util::future::join_all(unshown.iter().map(|(namespace, right)| {
        let namespace = if right.resource == "namespaces" { "" } else { namespace.as_str() };
        cx.may(&cx.cluster, namespace, right)
    }))
    .await;
    let mut missing = Vec::new();
    for (one, answer) in unshown.into_iter().zip(answers) {
        if !answer.map_err(Failure::from)? {
            missing.push(one);
        }
    }
    Ok(Rights { asked, missing, skipped: None })
}

fn or_none(answer: Result<BTreeSet<Right>, Refusal>) -> Result<BTreeSet<Right>> {
    match answer {
        Ok(rights) => Ok(rights),
        Err(refusal) if refusal.class == crate::cluster::Class::Forbidden => Ok(BTreeSet::new()),
        Err(refusal) => Err(refusal.into()),
    }
}

fn where_of(namespace: &str, right: &Right) -> String {
    if right.resource == "namespaces" { "the cluster".to_owned() } else { namespace.to_owned() }
}

/// `OpenShift` lets users request projects, whose namespaces they may not create.
const PROJECTS: &str = "project.openshift.io";

async fn denied(cx: &Context, missing: &[(String, Right)]) -> Result<Failure> {
    let who = cx.operator().await.map(|operator| operator.name.clone()).unwrap_or_default();
    let mut failure = Failure::new(
        Id::MissingRights,
        format!("{who} lacks {} that this needs", count(missing.len(), "right")),
    );
    for (namespace, right) in missing {
        failure = failure.detail(format!("in {}", where_of(namespace, right)), right.to_string());
    }
    failure = failure.hint("ask an administrator for these, or use a context that has them: --context NAME");
    if !missing.iter().any(|(_, right)| right.resource == "namespaces" && right.verb == "create") {
        return Ok(failure);
    }
    let request = Right::new(PROJECTS, "projectrequests", "create");
    if !cx.may(&cx.cluster, "", &request).await.map_err(Failure::from)? {
        return Ok(dry_run::made_by_others(&cx.settings, failure));
    }
    failure = failure.hint("or request the namespaces as projects, which bring the rights inside them:");
    for namespace in cx.names.namespaces().iter().filter(|one| !cx.is_used(&one.name)) {
        failure = failure.hint(format!("  oc new-project {}", shell_word(&namespace.name)));
    }
    Ok(failure.hint(format!("  {}", dry_run::with_used_namespaces(&cx.settings))))
}

#[cfg(test)]
mod tests {
    use super::versions;
    use crate::base::error::Id;

    #[test]
    fn gitlab_and_runner_go_together_or_it_is_said() {
        let warned =
            |gitlab: &str, runner: &str| versions(Some(gitlab), runner).map(|warning| !warning.is_empty());
        assert_eq!(warned("19.4.1-ee", "19.4.1").ok(), Some(false));
        assert_eq!(warned("19.5.0-pre", "19.4.1").ok(), Some(false));
        assert_eq!(warned("18.11.2", "19.4.1").ok(), Some(true));
        assert_eq!(warned("15.11.0", "19.4.1").expect_err("too old").id, Id::GitlabTooOld);
        assert!(versions(None, "19.4.1").expect("not known is no fault").is_empty());
        assert!(versions(Some("?"), "19.4.1").expect("nor is an odd word").is_empty());
    }
}
