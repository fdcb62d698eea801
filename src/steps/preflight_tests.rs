//! Certain failures are refusals, possible ones warnings; both are findings.

use super::*;
use crate::steps::fixture::{self, World};

fn failure(id: Id) -> Failure {
    Failure::new(id, format!("it is {id:?}"))
}

/// No problem, and no GitLab URL.
#[expect(clippy::unnecessary_wraps, reason = "the type of the observation")]
fn base(_: &mut World) -> Option<Box<Seen>> {
    Some(Box::new(Seen {
        kubeconfig: "context here of /k".to_owned(),
        server: Ok("v1.37.2".to_owned()),
        operator: Ok("ann".to_owned()),
        rights: Ok(Rights::Granted(Vec::new())),
        trust: Ok(fixture::trust()),
        jobs: Vec::new(),
        unchecked: Vec::new(),
        gitlab: Gitlab::None,
        exec_plugin: None,
        complete: true,
    }))
}

fn at(seen: &mut Option<Box<Seen>>) -> &mut Seen {
    seen.as_mut().expect("it was looked at")
}

/// GitLab of this version, with these obstacles.
fn asked(version: &str, obstacles: Vec<Failure>) -> Gitlab {
    let instance = Instance {
        version: Some(version.to_owned()),
        token: None,
        project: None,
        scope: None,
        access: None,
        user: None,
        admin: None,
        maintenance: None,
        skipped: Vec::new(),
    };
    Gitlab::Asked(Ok(Box::new(instance)), obstacles)
}

const WELL: &str = "Keep: nothing in the way";

#[test]
fn decisions() {
    fixture::table(
        &Preflight,
        base,
        |act| match *act {},
        &[
            ("passes without problems", &[], |_, _| {}, &[WELL]),
            ("no line for teardown", &[], |_, seen| *seen = None, &[]),
            (
                "passes for the checks that are possible now",
                &[],
                |_, seen| at(seen).complete = false,
                &["Keep: nothing in the way of what can be looked at now"],
            ),
            (
                "reports all failures together",
                &[],
                |_, seen| {
                    let seen = at(seen);
                    seen.server = Err(failure(Id::ClusterUnreachable));
                    seen.operator = Err(failure(Id::UnknownCredentials));
                    seen.rights = Err(failure(Id::ClusterError));
                    seen.trust = Err(failure(Id::EndpointCertificate));
                    seen.gitlab = Gitlab::Asked(Err(failure(Id::GitlabUnavailable)), Vec::new());
                },
                &[
                    "Refuse ClusterUnreachable",
                    "Refuse UnknownCredentials",
                    "Refuse ClusterError",
                    "Refuse EndpointCertificate",
                    "Refuse GitlabUnavailable",
                ],
            ),
            (
                "refuses missing rights",
                &[],
                |_, seen| at(seen).rights = Ok(Rights::Denied(failure(Id::MissingRights))),
                &["Refuse MissingRights"],
            ),
            (
                "skips the rights if all objects exist",
                &[],
                |_, seen| at(seen).rights = Ok(Rights::InPlace),
                &[WELL],
            ),
            (
                "warns of a policy that rejects job pods",
                &[],
                |_, seen| {
                    at(seen)
                        .jobs
                        .push(failure(Id::AdmissionRefused).detail("it says", "no").hint("ask for more"));
                },
                &[
                    WELL,
                    "Warning!: job pods will be rejected: it is AdmissionRefused | it says: no | ask for more",
                ],
            ),
            (
                "shows the warning of job pods after failures",
                &[],
                |_, seen| {
                    at(seen).jobs.push(failure(Id::AdmissionRefused));
                    at(seen).server = Err(failure(Id::ClusterUnreachable));
                },
                &["Refuse ClusterUnreachable", "Warning!: job pods will be rejected"],
            ),
            (
                "passes with a supported GitLab",
                &[],
                |_, seen| at(seen).gitlab = asked("99.1.0", Vec::new()),
                &[WELL],
            ),
            (
                "passes without a check of GitLab",
                &[],
                |_, seen| at(seen).gitlab = Gitlab::Skipped("no".to_owned()),
                &[WELL],
            ),
            (
                "refuses an old GitLab together with its obstacles",
                &[],
                |_, seen| at(seen).gitlab = asked("15.11.0", vec![failure(Id::GitlabForbidden)]),
                &["Refuse GitlabTooOld: 15.11", "Refuse GitlabForbidden"],
            ),
        ],
    );
}

#[test]
fn findings_have_outcome_and_detail() {
    let mut world = World::new(&[]);
    world.run.options.verbose = 1;
    let mut seen = base(&mut world);
    at(&mut seen).operator = Err(failure(Id::UnknownCredentials));
    let right = ("demo".to_owned(), Right::new("", "secrets", "get"));
    at(&mut seen).rights = Ok(Rights::Granted(vec![right]));
    at(&mut seen).trust.as_mut().expect("it is trusted").warnings.push("it ends soon".to_owned());
    at(&mut seen).jobs.push(failure(Id::AdmissionRefused));
    at(&mut seen).gitlab = Gitlab::Skipped("--runner-token-file is set".to_owned());
    at(&mut seen).exec_plugin = Some("aws".to_owned());
    let findings = world.deciding(|d| Preflight.decide(d, &seen)).findings;
    let found: Vec<_> = findings
        .iter()
        .map(|one| {
            format!(
                "{}: {:?} {}",
                one.name,
                one.outcome,
                one.detail.iter().map(ToString::to_string).collect::<String>()
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            "kubeconfig: Pass ",
            "server: Pass ",
            "you: Fail ",
            "rights: Pass secrets get in demo",
            "certificate: Pass ",
            "certificate: Warn ",
            "jobs: Warn ",
            "gitlab: Skipped ",
            "exec plugin: Pass ",
        ]
    );
    let warning = findings.iter().find(|one| one.name == "certificate" && one.outcome == Judgement::Warn);
    assert_eq!(warning.map(|one| one.text.as_str()), Some("it ends soon"));
}

#[test]
fn runner_newer_than_gitlab_is_a_warning() {
    let warned = |gitlab: &str, runner: &str| versions(Some(gitlab), runner).map(|warning| warning.is_some());
    assert_eq!(warned("19.4.1-ee", "19.4.1").ok(), Some(false));
    assert_eq!(warned("19.5.0-pre", "19.4.1").ok(), Some(false));
    assert_eq!(warned("18.11.2", "19.4.1").ok(), Some(true));
    assert_eq!(warned("15.11.0", "19.4.1").expect_err("too old").id, Id::GitlabTooOld);
    assert!(versions(None, "19.4.1").expect("an unknown version passes").is_none());
    assert!(versions(Some("?"), "19.4.1").expect("an unreadable version passes").is_none());
}
