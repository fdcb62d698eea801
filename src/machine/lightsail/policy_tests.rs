use std::collections::BTreeSet;

use super::{ALL, Create, Operate, PolicyPhase, Remove, TAG, policy};

/// Which call of the client belongs to which phase.
const CALLS: &[(&str, &[PolicyPhase])] = &[
    // identity() asks STS, which needs no permission.
    ("instance", ALL),
    ("operation", ALL),
    ("static_ip", ALL),
    ("port_states", &[Create, Operate]),
    ("access_details", &[Create, Operate]),
    ("regions", &[Create, Operate]),
    ("blueprints", &[Create, Operate]),
    ("bundles", &[Create, Operate]),
    ("create", &[Create]),
    ("put_ports", &[Create, Operate]),
    ("close_port", &[Create, Operate]),
    ("require_metadata_tokens", &[Create, Operate]),
    ("delete", &[Remove]),
    ("allocate_static_ip", &[Create]),
    ("attach_static_ip", &[Create]),
    ("release_static_ip", &[Remove]),
];

fn actions(which: PolicyPhase) -> BTreeSet<String> {
    let policy = policy(which, None);
    let statements = policy["Statement"].as_array().expect("statements").clone();
    let actions = statements.iter().flat_map(|one| one["Action"].as_array().expect("actions").clone());
    actions.map(|action| action.as_str().expect("text").replace("lightsail:", "")).collect()
}

/// The operation that a method sends, read from its source.
fn operation(source: &str, method: &str) -> String {
    let (_, body) =
        source.split_once(&format!("pub async fn {method}(")).unwrap_or_else(|| panic!("{method}"));
    let body = body.split("\n    }\n").next().expect("a body");
    let mut words = body.split('"').skip(1).step_by(2);
    let found = words.find(|word| {
        word.chars().all(char::is_alphanumeric) && word.starts_with(|c: char| c.is_ascii_uppercase())
    });
    found.unwrap_or_else(|| panic!("{method} sends no operation")).to_owned()
}

#[test]
fn each_phase_has_the_actions_of_its_calls_and_no_other() {
    let source = include_str!("mod.rs");
    for which in [Create, Operate, Remove] {
        let calls = CALLS.iter().filter(|call| call.1.contains(&which));
        let mut expected: BTreeSet<String> = calls.map(|call| operation(source, call.0)).collect();
        if which == Create {
            expected.insert("TagResource".to_owned());
        }
        assert_eq!(actions(which), expected, "{which:?}");
    }
    let public: BTreeSet<&str> =
        source.split("pub async fn ").skip(1).filter_map(|rest| rest.split('(').next()).collect();
    let known: BTreeSet<&str> = CALLS.iter().map(|call| call.0).chain(["connect", "identity"]).collect();
    assert_eq!(public, known, "each call of the client belongs to a phase");
}

#[test]
fn statements_are_limited_to_the_deployments_tag() {
    for which in [Create, Operate, Remove] {
        let policy = policy(which, Some("id-1"));
        for statement in policy["Statement"].as_array().expect("statements") {
            let actions = statement["Action"].to_string();
            let tagged =
                ["DeleteInstance", "PutInstancePublicPorts", "GetInstanceAccessDetails", "CloseInstance"];
            let key = if actions.contains("CreateInstances") {
                Some(format!("aws:RequestTag/{TAG}"))
            } else {
                tagged.iter().any(|action| actions.contains(action)).then(|| format!("aws:ResourceTag/{TAG}"))
            };
            match key {
                Some(key) => assert_eq!(statement["Condition"]["StringEquals"][key], "id-1", "{actions}"),
                None => assert!(statement.get("Condition").is_none(), "{actions}"),
            }
            let writes = ["Delete", "Put", "Update", "Release", "Close"];
            if writes.iter().any(|word| actions.contains(&format!(":{word}"))) {
                assert_ne!(statement["Resource"], "*", "{actions}");
            }
        }
    }
    let any = policy(Operate, None).to_string();
    assert!(any.contains(r#""Null":{"aws:ResourceTag/outrigger:id":"false"}"#), "{any}");
}
