//! What goes wrong in the Lightsail, and what its log says.

use std::time::Duration;

use crate::client::{at_once, good, instance, refused, wish, with};
use outrigger_doubles::lightsail::{Action, Fault, Foreign, Lags, Options, Refusal};
use serde_json::{Value, json};

#[test]
fn an_answer_is_lost_and_the_instance_is_there_or_not() {
    let (lightsail, client) = at_once();
    lightsail.inject(Fault::once("POST", "/CreateInstances", Action::ResetAfter));
    lightsail.inject(Fault { skip: 1, ..Fault::once("POST", "/CreateInstances", Action::ResetBefore) });
    let send = |name: &str| client.send("CreateInstances", wish(name).to_string().as_bytes());
    assert!(send("executed").is_err());
    assert!(instance(&client, "executed").is_some());
    assert_eq!(refused(client.call("CreateInstances", &wish("executed"))).0, "InvalidInputException");
    assert!(send("lost").is_err());
    assert!(instance(&client, "lost").is_none());
    good(client.call("CreateInstances", &wish("lost")));
}

#[test]
fn refusals_come_as_often_as_wanted_and_do_nothing() {
    let (lightsail, client) = at_once();
    let other = Refusal::Other("UnauthenticatedException".to_owned(), "who?".to_owned());
    for (refusal, kind, words) in [
        (Refusal::Throttled, "ThrottlingException", "Rate exceeded"),
        (Refusal::Quota, "InvalidInputException", "reached your maximum limit of Lightsail Instances : 0."),
        (Refusal::AccountPending, "InvalidInputException", "Your AWS account is pending verification"),
        (Refusal::AccountSetup, "AccountSetupInProgressException", ""),
        (Refusal::RegionSetup, "RegionSetupInProgressException", ""),
        (Refusal::Service, "ServiceException", ""),
        (other, "UnauthenticatedException", "who?"),
    ] {
        lightsail.refuse("CreateInstances", 2, refusal);
        for _ in 0..2 {
            let (found, text) = refused(client.call("CreateInstances", &wish("vm")));
            assert_eq!((found.as_str(), text.contains(words)), (kind, true), "{text}");
        }
        good(client.call("GetRegions", &json!({})));
        assert!(instance(&client, "vm").is_none());
    }
    good(client.call("CreateInstances", &wish("vm")));
}

#[test]
fn an_operation_fails_with_a_code_and_changes_nothing() {
    let lags = Lags { operation: Duration::from_secs(60), ..Lags::NONE };
    let (lightsail, client) = with(Options { lags, ..Options::default() });
    lightsail.fail_operation("CreateInstance", "InsufficientCapacity", "no room");
    let made = good(client.call("CreateInstances", &wish("vm")))["operations"][0].clone();
    assert_eq!((&made["status"], &made["errorCode"]), (&json!("Started"), &Value::Null));
    assert!(instance(&client, "vm").is_some());
    lightsail.advance(Duration::from_secs(60));
    let ended = good(client.call("GetOperation", &json!({"operationId": made["id"]})))["operation"].clone();
    assert_eq!((&ended["status"], &ended["errorCode"]), (&json!("Failed"), &json!("InsufficientCapacity")));
    assert_eq!(ended["errorDetails"], "no room");
    assert!(instance(&client, "vm").is_none());
    good(client.call("CreateInstances", &wish("vm")));
    let before = lightsail.snapshot();
    for (kind, operation, members) in [
        ("DeleteInstance", "DeleteInstance", json!({"instanceName": "vm"})),
        (
            "PutInstancePublicPorts",
            "PutInstancePublicPorts",
            json!({"instanceName": "vm", "portInfos": [{"fromPort": 1, "toPort": 1, "protocol": "tcp"}]}),
        ),
        (
            "UpdateInstanceMetadataOptions",
            "UpdateInstanceMetadataOptions",
            json!({"instanceName": "vm", "httpTokens": "required"}),
        ),
        ("AllocateStaticIp", "AllocateStaticIp", json!({"staticIpName": "ip"})),
    ] {
        lightsail.fail_operation(kind, "Failed", "as wanted");
        good(client.call(operation, &members));
        assert_eq!(lightsail.snapshot(), before, "{operation}");
    }
}

#[test]
fn an_account_has_so_many_instances() {
    let (_lightsail, client) = with(Options { quota: 1, lags: Lags::NONE, ..Options::default() });
    good(client.call("CreateInstances", &wish("vm")));
    let (kind, text) = refused(client.call("CreateInstances", &wish("second")));
    assert_eq!(kind, "InvalidInputException");
    assert!(text.contains("maximum limit of Lightsail Instances : 1."), "{text}");
}

#[test]
fn the_log_has_each_request_with_its_operation_members_status_and_key() {
    let (lightsail, client) = at_once();
    good(client.call("GetRegions", &json!({"includeAvailabilityZones": true})));
    refused(client.call("GetInstance", &json!({"instanceName": "vm"})));
    lightsail.inject(Fault::once("POST", "/GetBundles", Action::ResetBefore));
    assert!(client.send("GetBundles", b"{}").is_err());
    let asked = lightsail.requests();
    let seen: Vec<(&str, &Value, u16)> =
        asked.iter().map(|asked| (asked.operation.as_str(), &asked.members, asked.status)).collect();
    assert_eq!(
        seen,
        [
            ("GetRegions", &json!({"includeAvailabilityZones": true}), 200),
            ("GetInstance", &json!({"instanceName": "vm"}), 400),
            ("GetBundles", &json!({}), 0),
        ]
    );
    assert!(asked.iter().all(|asked| asked.access_key == lightsail.key("admin").id));
    assert!(asked.iter().all(|asked| asked.caller == "arn:aws:iam::123456789012:user/admin"));
    lightsail.clear_requests();
    assert!(lightsail.requests().is_empty());
}

#[test]
fn what_is_no_call_is_refused() {
    let (lightsail, client) = at_once();
    let send = |operation: &str, body: &[u8]| {
        let reply = client.send(operation, body).expect("an answer");
        refused((reply.status, reply.json())).0
    };
    assert_eq!(send("GetInstances", b"{}"), "UnknownOperationException");
    assert_eq!(send("GetRegions", b"{"), "SerializationException");
    assert_eq!(send("GetRegions", b"[]"), "SerializationException");
    assert_eq!(send("GetRegions", b"{\"zones\":true}"), "SerializationException");
    assert_eq!(send("GetInstance", b"{}"), "InvalidInputException");
    let wrong = [("content-type", "application/json"), ("x-amz-target", "Lightsail_20161128.GetRegions")];
    let reply = client.signed("lightsail", &wrong, b"{}", jiff::Timestamp::now()).expect("an answer");
    assert_eq!(refused((reply.status, reply.json())).0, "SerializationException");
    let plain = outrigger_doubles::http::Http::new(&lightsail.url(), "");
    let reply = plain.send("GET", "/", &[], b"").expect("an answer");
    assert_eq!(refused((reply.status, reply.json())).0, "UnknownOperationException");
}

#[test]
#[should_panic(expected = "the stand-in's own answers are wrong: GetInstance: instance.blueprintId")]
fn an_answer_that_the_model_does_not_allow_ends_the_test() {
    let (lightsail, client) = at_once();
    lightsail.put_instance(Foreign { blueprint: " ".to_owned(), ..Foreign::new("vm") });
    instance(&client, "vm");
}
