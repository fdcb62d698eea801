//! Tests of both renderings.

use std::time::Duration;

use super::Human;
use crate::base::error::{Command, Failure, Field, Hint, Id};
use crate::base::event::{End, Event, Fold, Mark, Outcome, PlanLine, Status, Summary, Thing};

const WIDE: Human = Human { width: 100, unicode: true, colour: false, whole: false };

fn owned(text: &str) -> String {
    text.to_owned()
}

fn header() -> Event {
    let row = |a, b, c| (owned(a), owned(b), owned(c));
    Event::Header {
        deployment: owned("kubernetes-runner"),
        rows: vec![
            row("cluster", "acme-ci at https://34.77.12.8, v1.37.2", "kubeconfig, current context"),
            row("runner", "gitlab-runner 19.4.1, tags k8s-runner", "default"),
            row("you", "dev@example.com", ""),
        ],
    }
}

fn plan() -> Event {
    let line = |step, mark, text, detail: &[&str]| PlanLine {
        step: owned(step),
        mark,
        text: owned(text),
        detail: detail.iter().map(|d| (*d).into()).collect(),
        object: (mark == Mark::Update).then(|| Thing {
            kind: owned("Role"),
            namespace: owned("kubernetes-runner-jobs"),
            name: owned("kubernetes-runner"),
        }),
        fold: if mark == Mark::Keep { Fold::InPlace } else { Fold::Never },
    };
    Event::Plan {
        removes: None,
        lines: vec![
            line("create-namespaces", Mark::Create, "kubernetes-runner, kubernetes-runner-jobs", &[]),
            line("create-role", Mark::Update, "Role kubernetes-runner", &["- pods/exec   get"]),
            line("create-role", Mark::Replace, "RoleBinding", &[]),
            line("extract-ca", Mark::Keep, "1 certificate from your kubeconfig, 2,113 days left", &[]),
        ],
        changes: 3,
    }
}

fn steps() -> Vec<Event> {
    let step = || owned("create-role");
    vec![
        Event::StepDone {
            step: step(),
            changed: true,
            fold: Fold::Never,
            text: owned("created Role kubernetes-runner and 3 more"),
        },
        Event::StepDone { step: step(), changed: false, fold: Fold::InPlace, text: owned("kept") },
        Event::StepDone {
            step: owned("preflight"),
            changed: false,
            fold: Fold::Never,
            text: owned("nothing in the way"),
        },
        Event::StepWaiting {
            step: step(),
            what: owned("the token Secret"),
            waited: Duration::from_secs(200),
        },
        Event::StepFailed { step: step(), text: owned("refused") },
        Event::Undone { step: step(), text: owned("deleted 4 objects") },
        Event::Check {
            name: owned("certificate"),
            outcome: Outcome::Warn,
            text: owned("ends in 9 days"),
            detail: vec!["2026-12-03".into()],
        },
        Event::Warning { text: owned("the kubeconfig is readable by others") },
        Event::Retry { what: owned("GET /version"), wait: Duration::from_secs(2), why: owned("503") },
    ]
}

fn failure() -> Event {
    Event::Failed(
        Failure::new(Id::LackingRights, "the runner's token may not create pods in kubernetes-runner-jobs")
            .detail(
                "the server says",
                "pods is forbidden: User \"x\" cannot create resource \"pods\" in API group \"\"",
            )
            .hint(Command::outrigger("create-role --force-conflicts")),
    )
}

fn finished() -> Event {
    Event::Finished(Box::new(End {
        exit: 9,
        changed: true,
        seconds: 1.234_56,
        text: owned("Stopped at issue-token."),
        status: vec![Status::Unhealthy],
        errors: vec!["OR0906"],
        warnings: vec![owned("the kubeconfig is readable by others")],
        ..End::default()
    }))
}

fn ended(seconds: f64, text: &str) -> Event {
    Event::Finished(Box::new(End { seconds, text: owned(text), ..End::default() }))
}

fn json_line(event: &Event) -> String {
    super::json_line(event, "2026-11-27T13:00:00Z".parse().expect("a time"))
}

fn all(human: Human, events: &[Event]) -> String {
    events.iter().map(|event| human.render(event)).collect()
}

#[test]
fn renders_header_and_plan_in_a_wide_terminal() {
    assert_eq!(
        all(WIDE, &[header(), plan()]),
        "\
kubernetes-runner
  cluster   acme-ci at https://34.77.12.8, v1.37.2   kubeconfig, current context
  runner    gitlab-runner 19.4.1, tags k8s-runner    default
  you       dev@example.com

Plan
  create-namespaces   + kubernetes-runner, kubernetes-runner-jobs
  create-role         ~ Role kubernetes-runner
                        - pods/exec   get
                      ± RoleBinding
  1 step in place

"
    );
    let whole = Human { whole: true, ..WIDE }.render(&plan());
    let kept = "  extract-ca          = 1 certificate from your kubeconfig, 2,113 days left\n";
    assert!(whole.contains(kept) && !whole.contains("in place"), "{whole}");
}

/// What is not needed is not said to be in place. A step with both is in place.
#[test]
fn steps_in_place_and_steps_not_needed_are_counted_apart() {
    let line = |step: &str, fold| PlanLine {
        step: owned(step),
        mark: Mark::Keep,
        text: owned("x"),
        detail: Vec::new(),
        object: None,
        fold,
    };
    for (folds, expected) in [
        (
            &[("a", Fold::InPlace), ("b", Fold::NotNeeded), ("c", Fold::NotNeeded)][..],
            "  1 step in place, 2 not needed\n",
        ),
        (&[("a", Fold::NotNeeded), ("a", Fold::InPlace), ("b", Fold::InPlace)], "  2 steps in place\n"),
        (&[("a", Fold::NotNeeded)], "  1 step not needed\n"),
        (&[("a", Fold::Check)], ""),
    ] {
        let lines = folds.iter().map(|(step, fold)| line(step, *fold)).collect();
        let text = WIDE.render(&Event::Plan { removes: None, lines, changes: 0 });
        assert_eq!(text, format!("\nPlan\n{expected}\n"), "{folds:?}");
    }
}

/// A teardown lists what it keeps, because that stays.
#[test]
fn the_plan_of_a_teardown_is_never_folded() {
    let Event::Plan { lines, changes, .. } = plan() else { panic!("a plan") };
    let text = WIDE.render(&Event::Plan { removes: Some(owned("ci")), lines, changes });
    assert!(text.starts_with("\nThis removes ci\n") && text.contains("= 1 certificate"), "{text}");
    // A check that found nothing is not counted.
    let Event::Plan { mut lines, changes, .. } = plan() else { panic!("a plan") };
    lines.last_mut().expect("a line").fold = Fold::Check;
    let text = WIDE.render(&Event::Plan { removes: None, lines, changes });
    assert!(!text.contains("in place") && !text.contains("certificate"), "{text}");
}

#[test]
fn renders_header_and_plan_in_sixty_columns() {
    let text = all(Human { width: 60, ..WIDE }, &[header(), plan()]);
    assert_eq!(
        text,
        "\
kubernetes-runner
  cluster   acme-ci at https://34.77.12.8, v1.37.2
            (kubeconfig, current context)
  runner    gitlab-runner 19.4.1, tags k8s-runner (default)
  you       dev@example.com

Plan
  create-namespaces   + kubernetes-runner,
                        kubernetes-runner-jobs
  create-role         ~ Role kubernetes-runner
                        - pods/exec   get
                      ± RoleBinding
  1 step in place

"
    );
}

#[test]
fn renders_steps_in_a_wide_terminal() {
    assert_eq!(
        all(WIDE, &steps()),
        "\
✔ create-role         created Role kubernetes-runner and 3 more
= create-role         kept
✔ preflight           nothing in the way
… create-role         waiting for the token Secret, 3 min 20 s
✗ create-role         refused
✔ create-role         deleted 4 objects
! certificate         warning: ends in 9 days
                      2026-12-03
warning: the kubeconfig is readable by others
retry: GET /version again in 2 s (503)
"
    );
}

#[test]
fn renders_steps_without_utf8() {
    let text = all(Human { unicode: false, ..WIDE }, &steps()[..5]);
    assert_eq!(
        text,
        "\
ok  create-role         created Role kubernetes-runner and 3 more
=   create-role         kept
ok  preflight           nothing in the way
... create-role         waiting for the token Secret, 3 min 20 s
x   create-role         refused
"
    );
}

#[test]
fn renders_a_failure_and_the_end() {
    assert_eq!(
        all(Human { width: 80, ..WIDE }, &[failure(), finished()]),
        "
error OR0906: the runner's token may not create pods in kubernetes-runner-jobs
  the server says   pods is forbidden: User \"x\" cannot create resource \"pods\" in
                    API group \"\"
  do this           outrigger create-role --force-conflicts
  more              outrigger explain OR0906
Stopped at issue-token.     exit 9
"
    );
    let done = ended(0.31, "Nothing to change.");
    assert_eq!(WIDE.render(&done), "Nothing to change. 0.3 s in all.\n");
    // A run without a text prints nothing, whatever its duration.
    for seconds in [0.0, 0.049, 0.31, 12.0] {
        assert_eq!(WIDE.render(&ended(seconds, "")), "");
        let done = ended(seconds, "Nothing to change.");
        assert_eq!(WIDE.render(&done), format!("Nothing to change. {seconds:.1} s in all.\n"));
    }
}

#[test]
fn does_not_wrap_commands_of_next_lines() {
    let command = "setup --non-interactive --gitlab-url https://gitlab.com --runner-token-file token";
    let text = "Do the same without any further question being asked";
    let next = Event::Next { lines: vec![Hint::new(text, Command::outrigger(command))] };
    assert_eq!(
        Human { width: 40, ..WIDE }.render(&next),
        format!(
            "\nNext\n  Do the same without any further\n  question being asked:\n    outrigger {command}\n"
        )
    );
}

#[test]
fn colour_does_not_change_the_text() {
    let coloured = Human { colour: true, ..WIDE };
    let events = [vec![header(), plan(), failure(), finished()], steps()].concat();
    let text = all(coloured, &events);
    assert!(text.contains("\x1b[32m✔\x1b[0m create-role"));
    assert_eq!(console::strip_ansi_codes(&text), all(WIDE, &events));
}

#[test]
fn removes_terminal_control_from_outside_text() {
    let evil = Event::Note { text: owned("\x1b]0;x\x07\u{9b}\u{202e}hi") };
    assert_eq!(WIDE.render(&evil), "]0;xhi\n");
    assert_eq!(
        json_line(&evil),
        "{\"schema\":\"outrigger/2.0\",\"time\":\"2026-11-27T13:00:00.000Z\",\"type\":\"note\",\"text\":\"]0;xhi\"}\n"
    );
}

#[test]
fn renders_json_lines() {
    let events = [
        vec![header(), plan(), Event::StepStarted { step: owned("s") }],
        steps(),
        vec![failure(), finished()],
    ]
    .concat();
    let lines: String = events.iter().map(json_line).collect();
    assert_eq!(
        lines,
        r#"{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"header","deployment":"kubernetes-runner","rows":[{"label":"cluster","source":"kubeconfig, current context","value":"acme-ci at https://34.77.12.8, v1.37.2"},{"label":"runner","source":"default","value":"gitlab-runner 19.4.1, tags k8s-runner"},{"label":"you","source":"","value":"dev@example.com"}]}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"plan","removes":null,"changes":3,"lines":[{"action":"create","detail":[],"object":null,"step":"create-namespaces","text":"kubernetes-runner, kubernetes-runner-jobs"},{"action":"update","detail":["- pods/exec   get"],"object":{"kind":"Role","name":"kubernetes-runner","namespace":"kubernetes-runner-jobs"},"step":"create-role","text":"Role kubernetes-runner"},{"action":"replace","detail":[],"object":null,"step":"create-role","text":"RoleBinding"},{"action":"keep","detail":[],"object":null,"step":"extract-ca","text":"1 certificate from your kubeconfig, 2,113 days left"}]}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"step-started","step":"s"}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"step-done","step":"create-role","changed":true,"text":"created Role kubernetes-runner and 3 more"}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"step-done","step":"create-role","changed":false,"text":"kept"}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"step-done","step":"preflight","changed":false,"text":"nothing in the way"}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"step-waiting","step":"create-role","what":"the token Secret","waitedSeconds":200}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"step-failed","step":"create-role","text":"refused"}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"undone","step":"create-role","text":"deleted 4 objects"}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"check","name":"certificate","outcome":"warn","text":"ends in 9 days","detail":["2026-12-03"]}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"warning","text":"the kubeconfig is readable by others","command":null}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"retry","what":"GET /version","waitSeconds":2.0,"why":"503"}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"error","id":"OR0906","kind":"proof","exit":9,"message":"the runner's token may not create pods in kubernetes-runner-jobs","causes":[{"label":"the server says","text":"pods is forbidden: User \"x\" cannot create resource \"pods\" in API group \"\""}],"next":[{"command":"outrigger create-role --force-conflicts","text":null}],"fields":[]}
{"schema":"outrigger/2.0","time":"2026-11-27T13:00:00.000Z","type":"result","exit":9,"status":["unhealthy"],"changed":true,"seconds":1.235,"text":"Stopped at issue-token.","reminder":null,"deployment":null,"context":null,"namespaces":null,"runner":null,"script":null,"tokenExpires":null,"pipeline":null,"left":null,"errors":["OR0906"],"warnings":["the kubeconfig is readable by others"]}
"#
    );
}

#[test]
fn json_names_missing_values_as_fields_and_the_deployment_in_the_result() {
    let mut failure = Failure::new(Id::MissingInput, "1 missing value")
        .detail("--gitlab-url URL", "GITLAB_URL   gitlabUrl:   such as https://gitlab.com")
        .detail("because", "of this");
    failure.fields = Box::new([Field {
        label: owned("--gitlab-url URL"),
        missing: true,
        flag: Some("--gitlab-url"),
        variable: Some("GITLAB_URL"),
        key: Some("gitlabUrl"),
        text: owned("such as https://gitlab.com"),
    }]);
    let read = |event| -> serde_json::Value { serde_json::from_str(&json_line(&event)).expect("JSON") };
    let error = read(Event::Failed(failure));
    assert_eq!(error["causes"], serde_json::json!([{"label": "because", "text": "of this"}]));
    let field = serde_json::json!({
        "problem": "missing", "flag": "--gitlab-url", "environment": "GITLAB_URL", "key": "gitlabUrl",
        "text": "such as https://gitlab.com",
    });
    assert_eq!(error["fields"], serde_json::json!([field]));
    let summary = Summary {
        deployment: owned("ci"),
        runner_namespace: owned("ci"),
        namespace: owned("ci-jobs"),
        runner: Some(101),
        left: Some(vec![Thing { kind: owned("Namespace"), namespace: String::new(), name: owned("ci") }]),
        ..Summary::default()
    };
    let result = read(Event::Finished(Box::new(End { deployment: Some(summary), ..End::default() })));
    assert_eq!(result["runner"], serde_json::json!({"id": 101, "url": null}));
    assert_eq!(result["namespaces"], serde_json::json!({"runner": "ci", "jobs": "ci-jobs"}));
    assert_eq!(result["left"][0], serde_json::json!({"kind": "Namespace", "namespace": null, "name": "ci"}));
}

#[test]
fn wraps_prose_at_the_width() {
    let human = Human { width: 20, ..WIDE };
    let text = "One paragraph that\nhas lines of its own.\n\nAnother.\n";
    assert_eq!(human.prose(text), "One paragraph that\nhas lines of its\nown.\n\nAnother.\n");
    assert_eq!(WIDE.prose(text), "One paragraph that has lines of its own.\n\nAnother.\n");
}

/// A value that is missing there makes a line invalid for a program that holds it to the schema.
#[test]
fn published_schema_has_every_kind_and_exit_code() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../docs/schemas/events.json")).expect("JSON");
    let kinds = schema["$defs"]["error"]["properties"]["kind"]["enum"].as_array().expect("an enum");
    let exits = schema["$defs"]["exit"]["enum"].as_array().expect("an enum");
    for id in Id::ALL {
        let kind = format!("{:?}", id.kind()).to_lowercase();
        assert!(kinds.contains(&kind.clone().into()), "{kind}");
        assert!(exits.contains(&id.kind().exit_code().into()), "{kind}");
    }
    let known = |kind: &serde_json::Value| {
        Id::ALL.iter().any(|id| *kind == format!("{:?}", id.kind()).to_lowercase())
    };
    let left: Vec<_> = kinds.iter().filter(|kind| !known(kind)).collect();
    // Another run's signal takes the place of a failure's own kind.
    assert!(left.iter().all(|kind| *kind == "terminated"), "{left:?}");
}
