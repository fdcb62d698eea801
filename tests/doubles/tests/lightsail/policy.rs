//! IAM policies of the Lightsail's callers.

use crate::client::{but, good, refused, wish, with};
use outrigger_doubles::lightsail::{Client, FakeLightsail, Foreign, KeySpec, Lags, Options};
use serde_json::{Value, json};

/// A Lightsail that one caller asks under these statements, and its administrator.
fn under(statements: &Value) -> (FakeLightsail, Client, Client) {
    let policy = json!({"Version": "2012-10-17", "Statement": statements});
    let keys = vec![KeySpec::with_policy("limited", policy)];
    let (lightsail, admin) = with(Options { keys, lags: Lags::NONE, ..Options::default() });
    let limited = Client::of(&lightsail, "limited");
    (lightsail, admin, limited)
}

fn denied(answer: (u16, Value), action: &str) {
    let (kind, text) = refused(answer);
    assert_eq!((kind.as_str(), text.contains(action)), ("AccessDeniedException", true), "{text}");
}

#[test]
fn a_tag_of_the_request_lets_an_instance_be_made() {
    let (_lightsail, _, limited) = under(&json!({
        "Effect": "Allow", "Action": ["lightsail:CreateInstances", "lightsail:TagResource"], "Resource": "*",
        "Condition": {"StringEquals": {"aws:RequestTag/owner": "us"}},
    }));
    let tagged = |value: &str| but(wish("vm"), "tags", json!([{"key": "owner", "value": value}]));
    denied(limited.call("CreateInstances", &wish("vm")), "lightsail:CreateInstances");
    denied(limited.call("CreateInstances", &tagged("them")), "lightsail:CreateInstances");
    good(limited.call("CreateInstances", &tagged("us")));
}

#[test]
fn a_tag_of_the_instance_lets_it_be_deleted_where_the_service_looks_at_tags() {
    let (lightsail, _, limited) = under(&json!([{
        "Effect": "Allow", "Action": ["lightsail:Delete*", "lightsail:UpdateInstanceMetadataOptions"],
        "Resource": "arn:aws:lightsail:*:*:Instance/*",
        "Condition": {"Null": {"aws:ResourceTag/owner": "false"}},
    }]));
    let tags = vec![("owner".to_owned(), "us".to_owned())];
    lightsail.put_instance(Foreign { tags, ..Foreign::new("ours") });
    lightsail.put_instance(Foreign::new("theirs"));
    let delete = |name: &str| limited.call("DeleteInstance", &json!({"instanceName": name}));
    denied(delete("theirs"), "lightsail:DeleteInstance");
    denied(delete("none"), "lightsail:DeleteInstance");
    let update = json!({"instanceName": "ours", "httpTokens": "required"});
    denied(limited.call("UpdateInstanceMetadataOptions", &update), "lightsail:UpdateInstanceMetadataOptions");
    good(delete("ours"));
}

#[test]
fn a_resource_is_matched_by_its_arn_and_each_of_several_is() {
    let both = json!({"staticIpName": "ip", "instanceName": "vm"});
    for (kinds, enough) in
        [(vec!["StaticIp"], false), (vec!["Instance"], false), (vec!["StaticIp", "Instance"], true)]
    {
        let resources: Value =
            kinds.iter().map(|kind| json!(format!("arn:aws:lightsail:*:*:{kind}/*"))).collect();
        let (lightsail, _, limited) =
            under(&json!({"Effect": "Allow", "Action": "lightsail:attachstaticip", "Resource": resources}));
        lightsail.put_instance(Foreign::new("vm"));
        lightsail.put_static_ip("ip");
        let (status, answer) = limited.call("AttachStaticIp", &both);
        assert_eq!(status == 200, enough, "{kinds:?}: {answer}");
    }
    let (lightsail, _, limited) = under(&json!([
        {"Effect": "Allow", "Action": "lightsail:GetRegions", "Resource": "arn:aws:lightsail:*:*:Instance/*"},
        {"Effect": "Allow", "Action": "lightsail:GetInstanc?", "Resource": "arn:aws:lightsail:*:*:Instance/*"},
    ]));
    lightsail.put_instance(Foreign::new("vm"));
    // It has no resource.
    denied(limited.call("GetRegions", &json!({})), "lightsail:GetRegions");
    good(limited.call("GetInstance", &json!({"instanceName": "vm"})));
    denied(limited.call("GetInstancePortStates", &json!({"instanceName": "vm"})), "GetInstancePortStates");
}

#[test]
fn a_statement_that_denies_wins() {
    let (_lightsail, _, limited) = under(&json!([
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "lightsail:Get*", "Resource": "*",
         "Condition": {"StringNotEquals": {"aws:RequestedRegion": ["us-east-1", "us-east-2"]}}},
    ]));
    let (_, text) = refused(limited.call("GetRegions", &json!({})));
    assert!(text.ends_with("with an explicit deny in an identity-based policy"), "{text}");
    good(limited.within("us-east-1").call("GetRegions", &json!({})));
}

#[test]
fn a_statement_that_is_not_played_is_not_passed_over() {
    for (member, value) in [
        ("NotAction", json!("lightsail:GetRegions")),
        ("Condition", json!({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}})),
        ("Condition", json!({"StringEquals": {"aws:SourceIp": "192.0.2.7"}})),
        ("Action", json!("lightsail:GetRegion")),
        ("Effect", json!("allow")),
    ] {
        let statement = json!({"Effect": "Allow", "Action": "lightsail:*", "Resource": "*"});
        let statements = json!([but(statement, member, value)]);
        assert!(std::panic::catch_unwind(|| under(&statements)).is_err(), "{member}");
    }
}
