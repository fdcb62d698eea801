//! The life of an instance of the Lightsail.

mod lightsail_client;

use std::time::Duration;

use lightsail_client::{at_once, but, good, instance, refused, until, wish, with};
use outrigger_doubles::lightsail::{DEFAULT_KEY_PAIR, Foreign, Lags, Options};
use serde_json::json;

#[test]
fn an_instance_is_made_once_shown_and_deleted() {
    let (lightsail, client) = at_once();
    let tags = json!([{"key": "outrigger:id", "value": "a-b"}, {"key": "alone"}]);
    let made = good(client.call("CreateInstances", &but(wish("vm"), "tags", tags.clone())));
    assert_eq!(made["operations"][0]["operationType"], "CreateInstance");
    let shown = instance(&client, "vm").expect("it is found");
    assert_eq!(shown["tags"], tags);
    assert_eq!(shown["state"], json!({"code": 16, "name": "running"}));
    assert_eq!(shown["username"], "ubuntu");
    assert_eq!(shown["location"], json!({"availabilityZone": "eu-central-1b", "regionName": "eu-central-1"}));
    let again = refused(client.call("CreateInstances", &wish("vm")));
    assert_eq!(again, ("InvalidInputException".to_owned(), "Some names are already in use: vm".to_owned()));
    good(client.call("DeleteInstance", &json!({"instanceName": "vm", "forceDeleteAddOns": true})));
    let gone = refused(client.call("GetInstance", &json!({"instanceName": "vm"})));
    assert_eq!(gone, ("NotFoundException".to_owned(), "The Instance does not exist: vm".to_owned()));
    assert_eq!(
        lightsail.snapshot()["123456789012"]["eu-central-1"].as_object().map(serde_json::Map::len),
        Some(1)
    );
    // What one instance left behind is there for the next.
    assert_eq!(lightsail.snapshot()["123456789012"]["eu-central-1"][DEFAULT_KEY_PAIR]["type"], "KeyPair");
    good(client.call("CreateInstances", &wish("vm")));
}

#[test]
fn names_are_shared_by_all_kinds_of_a_region_and_not_by_regions() {
    let (lightsail, client) = at_once();
    lightsail.put_static_ip("ip");
    lightsail.put_disk("disk");
    lightsail.put_key_pair("key");
    lightsail.put_instance(Foreign::new("vm"));
    for name in ["ip", "disk", "key", "vm"] {
        let (kind, text) = refused(client.call("CreateInstances", &wish(name)));
        assert_eq!(
            (kind.as_str(), text),
            ("InvalidInputException", format!("Some names are already in use: {name}"))
        );
        let (_, text) = refused(client.call("AllocateStaticIp", &json!({"staticIpName": name})));
        assert_eq!(text, format!("Some names are already in use: {name}"));
    }
    let elsewhere = client.within("us-east-1");
    good(elsewhere.call("CreateInstances", &but(wish("vm"), "availabilityZone", json!("us-east-1b"))));
}

#[test]
fn everything_has_its_own_time() {
    let lag = Duration::from_millis;
    let lags = Lags {
        found: lag(100),
        running: lag(250),
        address: lag(150),
        host_keys: lag(150),
        operation: lag(300),
        deletion: lag(150),
        ..Lags::NONE
    };
    let (_lightsail, client) = with(Options { lags, ..Options::default() });
    let id = good(client.call("CreateInstances", &wish("vm")))["operations"][0]["id"].clone();
    let (found, first) = until(|| instance(&client, "vm"));
    assert!(found >= lag(80), "{found:?}");
    assert_eq!(first["state"]["name"], "pending");
    let operation = || good(client.call("GetOperation", &json!({"operationId": id})))["operation"].clone();
    assert_eq!(
        (operation()["status"].clone(), operation()["isTerminal"].clone()),
        (json!("Started"), json!(false))
    );
    let details = json!({"instanceName": "vm", "protocol": "ssh"});
    assert_eq!(refused(client.call("GetInstanceAccessDetails", &details)).0, "OperationFailureException");
    let (_, running) = until(|| instance(&client, "vm").filter(|vm| vm["state"]["name"] == "running"));
    assert!(running["publicIpAddress"].is_null(), "{running}");
    assert!(good(client.call("GetInstanceAccessDetails", &details))["accessDetails"]["ipAddress"].is_null());
    let (_, ready) = until(|| instance(&client, "vm").filter(|vm| vm["publicIpAddress"].is_string()));
    let access = || good(client.call("GetInstanceAccessDetails", &details))["accessDetails"].clone();
    let early = access();
    assert_eq!((&early["ipAddress"], &early["hostKeys"]), (&ready["publicIpAddress"], &json!([])));
    let (_, late) = until(|| Some(access()).filter(|details| details["hostKeys"] != json!([])));
    assert_eq!(late["hostKeys"][0]["algorithm"], "ssh-ed25519");
    until(|| Some(operation()).filter(|operation| operation["status"] == "Succeeded"));
    good(client.call("DeleteInstance", &json!({"instanceName": "vm"})));
    assert_eq!(instance(&client, "vm").expect("not yet")["state"]["name"], "shutting-down");
    assert_eq!(refused(client.call("CreateInstances", &wish("vm"))).0, "InvalidInputException");
    let (took, ()) = until(|| instance(&client, "vm").is_none().then_some(()));
    assert!(took >= lag(100), "{took:?}");
}
