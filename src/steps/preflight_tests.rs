//! What would fail later is a refusal, what may be is a warning, and both are among the findings.

use super::*;
use crate::base::endpoint::Endpoint;
use crate::steps::fixture::{self, World};

fn failure(id: Id) -> Failure {
    Failure::new(id, format!("it is {id:?}"))
}

/// Nothing is wrong, and no GitLab is named.
#[expect(clippy::unnecessary_wraps, reason = "it is what the step sees")]
fn base(_: &mut World) -> Option<Box<Seen>> {
    let trust = Trust {
        endpoint: Endpoint::parse("https://k.test:6443", "it").expect("a URL"),
        ca_pem: None,
        fingerprint: String::new(),
        days_left: 90,
        source: "the system".to_owned(),
        members: 0,
        left_out: 0,
        unproven: None,
        warnings: Vec::new(),
    };
    Some(Box::new(Seen {
        kubeconfig: "context here of /k".to_owned(),
        server: Ok("v1.37.2".to_owned()),
        operator: Ok("ann".to_owned()),
        rights: Ok(Rights::Granted(Vec::new())),
        trust: Ok(trust),
        jobs: Vec::new(),
        unlooked: Vec::new(),
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
            ("all is well", &[], |_, _| {}, &[WELL]),
            ("nothing was looked at", &[], |_, seen| *seen = None, &[]),
            (
                "not all can be looked at yet",
                &[],
                |_, seen| at(seen).complete = false,
                &["Keep: nothing in the way of what can be looked at now"],
            ),
            (
                "all that fails is said at once",
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
                "rights are missing",
                &[],
                |_, seen| at(seen).rights = Ok(Rights::Denied(failure(Id::MissingRights))),
                &["Refuse MissingRights"],
            ),
            (
                "rights are not asked for, since all is in place",
                &[],
                |_, seen| at(seen).rights = Ok(Rights::InPlace),
                &[WELL],
            ),
            (
                "a policy will refuse jobs",
                &[],
                |_, seen| {
                    at(seen)
                        .jobs
                        .push(failure(Id::AdmissionRefused).detail("it says", "no").hint("ask for more"));
                },
                &[
                    WELL,
                    "Keep!: job pods will be rejected: it is AdmissionRefused | it says: no | ask for more",
                ],
            ),
            (
                "a policy will refuse jobs, and something fails",
                &[],
                |_, seen| {
                    at(seen).jobs.push(failure(Id::AdmissionRefused));
                    at(seen).server = Err(failure(Id::ClusterUnreachable));
                },
                &["Refuse ClusterUnreachable", "Keep!: job pods will be rejected"],
            ),
            ("GitLab is fine", &[], |_, seen| at(seen).gitlab = asked("99.1.0", Vec::new()), &[WELL]),
            (
                "GitLab is not asked",
                &[],
                |_, seen| at(seen).gitlab = Gitlab::Skipped("no".to_owned()),
                &[WELL],
            ),
            (
                "GitLab is too old, and lets nobody make a runner",
                &[],
                |_, seen| at(seen).gitlab = asked("15.11.0", vec![failure(Id::GitlabForbidden)]),
                &["Refuse GitlabTooOld: 15.11", "Refuse GitlabForbidden"],
            ),
        ],
    );
}

#[test]
fn findings() {
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
            "certificate: Warn it ends soon",
            "jobs: Warn ",
            "gitlab: Skipped ",
            "exec plugin: Pass ",
        ]
    );
}

#[test]
fn gitlab_and_runner_go_together_or_it_is_said() {
    let warned = |gitlab: &str, runner: &str| versions(Some(gitlab), runner).map(|warning| warning.is_some());
    assert_eq!(warned("19.4.1-ee", "19.4.1").ok(), Some(false));
    assert_eq!(warned("19.5.0-pre", "19.4.1").ok(), Some(false));
    assert_eq!(warned("18.11.2", "19.4.1").ok(), Some(true));
    assert_eq!(warned("15.11.0", "19.4.1").expect_err("too old").id, Id::GitlabTooOld);
    assert!(versions(None, "19.4.1").expect("not known is no fault").is_none());
    assert!(versions(Some("?"), "19.4.1").expect("nor is an odd word").is_none());
}
