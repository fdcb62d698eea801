//! Finds the reason why a job is pending.

use crate::base::error::{Command, Hint};
use crate::gitlab::types::shown;
use crate::gitlab::{Job, Project, Runner};

/// Why a job has not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No runner can take the job.
    Never(Why),
    /// The job may start at any time.
    Later(Why),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub job: String,
    /// Continues "job test cannot start: " or "job test has not started: ".
    pub because: String,
    pub hint: Option<Hint>,
}

/// What decides whether our runner takes a job.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Our runner, if visible.
    pub ours: Option<&'a Runner>,
    /// That no machine of our runner is in contact, as a sentence, and what to do about it.
    pub silence: Option<&'a (String, &'static str)>,
    pub project: &'a Project,
    /// Whether the branch is protected, if known.
    pub protected: Option<bool>,
}

/// The reason for the pending jobs of a pipeline.
///
/// No job is stuck while a job on our runner has succeeded or can still start: the others may be for other
/// runners.
pub fn why_waiting(jobs: &[Job], setting: Setting<'_>) -> Option<Reason> {
    let pending = || jobs.iter().filter(|job| job.status == "pending");
    let reasons: Vec<Reason> = pending().filter_map(|job| reason(job, setting)).collect();
    let first = reasons.iter().find(|reason| matches!(reason, Reason::Later(_))).or(reasons.first())?;
    let has_one = |ours: &Runner| {
        jobs.iter().any(|job| {
            (job.status == "success" && job.ran_on(ours.id))
                || matches!(reason(job, setting), Some(Reason::Later(_)))
        })
    };
    match (first, pending().next()) {
        (Reason::Never(..), Some(job)) if setting.ours.is_some_and(has_one) => Some(Reason::Later(Why {
            job: job.name.clone(),
            because: "no other runner has taken it".to_owned(),
            hint: None,
        })),
        _ => Some(first.clone()),
    }
}

/// The reason for a job that has not started.
fn reason(job: &Job, setting: Setting<'_>) -> Option<Reason> {
    if job.status != "pending" && job.status != "created" && job.status != "waiting_for_resource" {
        return None;
    }
    let why = |because: String, hint: Option<Hint>| Why { job: job.name.clone(), because, hint };
    let Some(runner) = setting.ours else {
        let because = format!("no runner with the tags {} has taken it", shown(&job.tags));
        return Some(Reason::Later(why(because, None)));
    };
    if let Some((because, hint)) = obstacle(job, runner, setting) {
        return Some(Reason::Never(why(because, Some(hint))));
    }
    Some(Reason::Later(match setting.silence {
        Some((because, hint)) => why(because.clone(), Some((*hint).into())),
        None => why(
            format!("runner {} is in contact and has not taken it", runner.id),
            Some(
                "if the runner is not busy with other jobs, look at its log: journalctl -u gitlab-runner"
                    .into(),
            ),
        ),
    }))
}

/// Why our runner never takes the job as things are, and what to change; by the rules of GitLab's
/// `Ci::Runner#matches_build?`.
fn obstacle(
    job: &Job,
    runner: &Runner,
    Setting { project, protected, .. }: Setting<'_>,
) -> Option<(String, Hint)> {
    let id = runner.id;
    let have = runner.tags.as_deref().unwrap_or_default();
    let off = |enabled: Option<bool>| enabled == Some(false);
    let (kind, is_off) = match runner.runner_type.as_str() {
        "instance_type" => ("instance", off(project.instance_runners)),
        "group_type" => ("group", off(project.group_runners)),
        _ => ("project", false),
    };
    if runner.paused {
        return Some(paused(id));
    }
    if is_off {
        return Some((
            format!(
                "runner {id} is {} {kind} runner, and {} does not use {kind} runners",
                article(kind),
                project.shown()
            ),
            format!("turn on {kind} runners for the project in GitLab (Settings, CI/CD, Runners)").into(),
        ));
    }
    // GitLab shows only those projects of a runner that the caller sees, which this one is.
    if kind == "project" && runner.projects.as_ref().is_some_and(|ids| !ids.contains(&project.id)) {
        let locked = if runner.locked == Some(true) { " and locked to others" } else { "" };
        return Some((
            format!("runner {id} is not assigned to {}{locked}", project.shown()),
            "assign it to the project in GitLab (Settings, CI/CD, Runners); a locked runner is unlocked first".into(),
        ));
    }
    if runner.tags.is_some() && job.tags.iter().any(|tag| !have.contains(tag)) {
        return Some((
            format!("it requires the tags {}, but runner {id} has {}", shown(&job.tags), shown(have)),
            (
                "to give the pipeline file and the runner the same tags",
                Command::outrigger("setup --commit-pipeline"),
            )
                .into(),
        ));
    }
    if job.tags.is_empty() && runner.run_untagged == Some(false) {
        return Some((
            format!("it has no tags, but runner {id} takes tagged jobs only"),
            format!("add the tags {} to the job in the pipeline file", shown(have)).into(),
        ));
    }
    if runner.protected_only && protected == Some(false) {
        return Some((
            format!("runner {id} takes jobs of protected branches only, and the branch is not protected"),
            "clear Protected for the runner in GitLab (Settings, CI/CD, Runners), or use a protected branch: --branch"
                .into(),
        ));
    }
    None
}

/// A paused runner, and what to do about it.
pub fn paused(runner: u64) -> (String, Hint) {
    (format!("runner {runner} is paused"), "resume it in GitLab (Settings, CI/CD, Runners)".into())
}

fn article(word: &str) -> &'static str {
    if word.starts_with('i') { "an" } else { "a" }
}

#[cfg(test)]
mod tests {
    use super::{Reason, Setting, reason, why_waiting};
    use crate::gitlab::{Job, Project, Runner};

    fn job(name: &str, status: &str, tags: &[&str]) -> Job {
        Job {
            name: name.to_owned(),
            status: status.to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..Job::default()
        }
    }

    fn runner() -> Runner {
        Runner {
            id: 101,
            runner_type: "project_type".to_owned(),
            status: "online".to_owned(),
            projects: Some(vec![7]),
            locked: Some(true),
            tags: Some(vec!["k8s-runner".to_owned()]),
            run_untagged: Some(false),
            ..Runner::default()
        }
    }

    fn project() -> Project {
        Project { id: 7, path: Some("acme/hello".to_owned()), ..Project::default() }
    }

    /// Name, job, our runner, the project, whether the branch is protected, whether nothing helps, the reason.
    type Case = (&'static str, Job, Option<Runner>, Project, Option<bool>, bool, &'static str);

    #[test]
    fn stuck_job_is_distinguished_from_a_waiting_one() {
        let silence = ("runner 101 is offline: last contact 3 h ago".to_owned(), "start the machine");
        let tagged = || job("test", "pending", &["k8s-runner"]);
        let typed =
            |runner_type: &str| Runner { runner_type: runner_type.to_owned(), projects: None, ..runner() };
        let off = Project { instance_runners: Some(false), group_runners: Some(false), ..project() };
        let protected = Runner { protected_only: true, ..runner() };
        let elsewhere = Runner { projects: Some(vec![8]), ..runner() };
        let cases: &[Case] = &[
            (
                "paused",
                tagged(),
                Some(Runner { paused: true, ..runner() }),
                project(),
                None,
                true,
                "runner 101 is paused",
            ),
            (
                "tags",
                job("test", "pending", &["gpu"]),
                Some(runner()),
                project(),
                None,
                true,
                "it requires the tags gpu, but runner 101 has k8s-runner",
            ),
            (
                "untagged",
                job("test", "pending", &[]),
                Some(runner()),
                project(),
                None,
                true,
                "it has no tags, but runner 101 takes tagged jobs only",
            ),
            (
                "unprotected",
                tagged(),
                Some(protected.clone()),
                project(),
                Some(false),
                true,
                "runner 101 takes jobs of protected branches only, and the branch is not protected",
            ),
            (
                "protected",
                tagged(),
                Some(protected.clone()),
                project(),
                Some(true),
                false,
                "runner 101 is in contact and has not taken it",
            ),
            (
                "not known to be protected",
                tagged(),
                Some(protected),
                project(),
                None,
                false,
                "runner 101 is in contact and has not taken it",
            ),
            (
                "locked elsewhere",
                tagged(),
                Some(elsewhere.clone()),
                project(),
                None,
                true,
                "runner 101 is not assigned to acme/hello (#7) and locked to others",
            ),
            (
                "elsewhere",
                tagged(),
                Some(Runner { locked: Some(false), ..elsewhere }),
                project(),
                None,
                true,
                "runner 101 is not assigned to acme/hello (#7)",
            ),
            (
                "projects not shown",
                tagged(),
                Some(Runner { projects: None, ..runner() }),
                project(),
                None,
                false,
                "runner 101 is in contact and has not taken it",
            ),
            (
                "instance",
                tagged(),
                Some(typed("instance_type")),
                off.clone(),
                None,
                true,
                "runner 101 is an instance runner, and acme/hello (#7) does not use instance runners",
            ),
            (
                "group",
                tagged(),
                Some(typed("group_type")),
                off,
                None,
                true,
                "runner 101 is a group runner, and acme/hello (#7) does not use group runners",
            ),
            (
                "served group",
                tagged(),
                Some(typed("group_type")),
                project(),
                None,
                false,
                "runner 101 is in contact and has not taken it",
            ),
            (
                "not visible",
                tagged(),
                None,
                project(),
                None,
                false,
                "no runner with the tags k8s-runner has taken it",
            ),
        ];
        for (what, job, runner, project, protected, never, because) in cases {
            let setting =
                |silence| Setting { ours: runner.as_ref(), silence, project, protected: *protected };
            match reason(job, setting(None)) {
                Some(Reason::Never(why)) if *never => assert_eq!(why.because, *because, "{what}"),
                Some(Reason::Later(why)) if !*never => assert_eq!(why.because, *because, "{what}"),
                other => panic!("{what}: {other:?}"),
            }
            // What cannot pass by itself comes before a machine that may start.
            if let Some(Reason::Later(why)) = reason(job, setting(Some(&silence)))
                && runner.is_some()
            {
                assert!(!never, "{what}");
                assert_eq!(why.because, silence.0, "{what}");
                assert_eq!(why.hint.map(|hint| hint.text).as_deref(), Some("start the machine"));
            }
        }
        let setting = Setting { ours: None, silence: None, project: &project(), protected: None };
        assert_eq!(reason(&job("test", "running", &[]), setting), None);
    }

    #[test]
    fn jobs_of_other_runners_are_not_stuck() {
        let of = |name: &str, status: &str, tag: &str, runner: Option<u64>| Job {
            runner: runner.map(|id| (id, String::new())),
            ..job(name, status, &[tag])
        };
        let ours = runner();
        let paused = Runner { paused: true, ..ours.clone() };
        let done = of("test", "success", "k8s-runner", Some(101));
        let to_come = of("test", "created", "k8s-runner", None);
        let waits = of("test", "pending", "k8s-runner", None);
        let theirs = of("deploy", "pending", "gpu", None);
        let project = project();
        let why = |jobs: &[&Job], runner| {
            let jobs: Vec<Job> = jobs.iter().map(|job| (*job).clone()).collect();
            let setting = Setting { ours: Some(runner), silence: None, project: &project, protected: None };
            why_waiting(&jobs, setting).map(|reason| match reason {
                Reason::Never(why) => format!("{} never", why.job),
                Reason::Later(why) => format!("{}: {}", why.job, why.because),
            })
        };
        let another = Some("deploy: no other runner has taken it");
        assert_eq!(why(&[&theirs, &done], &ours).as_deref(), another);
        assert_eq!(why(&[&theirs, &to_come], &ours).as_deref(), another);
        // The reason is that of our runner's job, at any position.
        let taken = Some("test: runner 101 is in contact and has not taken it");
        assert_eq!(why(&[&theirs, &waits], &ours).as_deref(), taken);
        assert_eq!(why(&[&theirs, &done], &paused).as_deref(), another);
        assert_eq!(why(&[&theirs], &ours).as_deref(), Some("deploy never"));
        assert_eq!(why(&[&theirs, &waits], &paused).as_deref(), Some("deploy never"));
        assert_eq!(why(&[&done], &ours), None);
    }
}
