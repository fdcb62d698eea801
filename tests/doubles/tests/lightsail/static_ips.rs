//! The Lightsail's static IP addresses.

use crate::client::{at_once, good, instance, refused, wish};
use outrigger_doubles::lightsail::Client;
use serde_json::{Value, json};

fn call(client: &Client, operation: &str) -> (u16, Value) {
    client.call(operation, &json!({"staticIpName": "ip"}))
}

fn attach(client: &Client, vm: &str) -> (u16, Value) {
    client.call("AttachStaticIp", &json!({"staticIpName": "ip", "instanceName": vm}))
}

#[test]
fn a_static_ip_is_the_instances_address_and_outlives_it() {
    let (_lightsail, client) = at_once();
    good(client.call("CreateInstances", &wish("vm")));
    let own = instance(&client, "vm").expect("it is there")["publicIpAddress"].clone();
    assert_eq!(refused(call(&client, "GetStaticIp")).1, "The StaticIp does not exist: ip");
    good(call(&client, "AllocateStaticIp"));
    let ip = good(call(&client, "GetStaticIp"))["staticIp"].clone();
    assert_eq!((&ip["isAttached"], &ip["attachedTo"]), (&json!(false), &Value::Null));
    good(attach(&client, "vm"));
    let vm = instance(&client, "vm").expect("it is there");
    assert_eq!((&vm["publicIpAddress"], &vm["isStaticIp"]), (&ip["ipAddress"], &json!(true)));
    assert_ne!(vm["publicIpAddress"], own);
    assert_eq!(good(call(&client, "GetStaticIp"))["staticIp"]["attachedTo"], "vm");
    assert_eq!(refused(call(&client, "ReleaseStaticIp")).0, "OperationFailureException");
    good(client.call("DeleteInstance", &json!({"instanceName": "vm"})));
    let left = good(call(&client, "GetStaticIp"))["staticIp"].clone();
    assert_eq!((&left["isAttached"], &left["ipAddress"]), (&json!(false), &ip["ipAddress"]));
    good(call(&client, "ReleaseStaticIp"));
    assert_eq!(refused(call(&client, "GetStaticIp")).0, "NotFoundException");
}

#[test]
fn a_static_ip_is_attached_to_one_instance_and_detached_again() {
    let (_lightsail, client) = at_once();
    for name in ["vm", "other"] {
        good(client.call("CreateInstances", &wish(name)));
    }
    assert_eq!(refused(attach(&client, "vm")).1, "The StaticIp does not exist: ip");
    good(call(&client, "AllocateStaticIp"));
    assert_eq!(refused(attach(&client, "none")).1, "The Instance does not exist: none");
    assert_eq!(refused(call(&client, "DetachStaticIp")).0, "OperationFailureException");
    good(attach(&client, "vm"));
    assert_eq!(refused(attach(&client, "other")).0, "OperationFailureException");
    let fixed = instance(&client, "vm").expect("it is there")["publicIpAddress"].clone();
    good(call(&client, "DetachStaticIp"));
    let vm = instance(&client, "vm").expect("it is there");
    assert_ne!(vm["publicIpAddress"], fixed);
    assert_eq!(vm["isStaticIp"], false);
}

#[test]
fn a_stop_and_start_changes_the_address_unless_it_is_static() {
    let (lightsail, client) = at_once();
    good(client.call("CreateInstances", &wish("vm")));
    let address = || instance(&client, "vm").expect("it is there")["publicIpAddress"].clone();
    let state = || instance(&client, "vm").expect("it is there")["state"]["name"].clone();
    let first = address();
    lightsail.stop("vm");
    assert_eq!((state(), address()), (json!("stopped"), Value::Null));
    let details = client.call("GetInstanceAccessDetails", &json!({"instanceName": "vm"}));
    assert_eq!(refused(details).0, "OperationFailureException");
    lightsail.start_instance("vm");
    assert_eq!(state(), "running");
    assert!(address().is_string() && address() != first);
    good(call(&client, "AllocateStaticIp"));
    good(attach(&client, "vm"));
    let fixed = address();
    lightsail.stop("vm");
    assert_eq!(address(), fixed);
    lightsail.start_instance("vm");
    assert_eq!(address(), fixed);
}

#[test]
fn an_account_has_five_static_ips() {
    let (lightsail, client) = at_once();
    for number in 0..5 {
        lightsail.put_static_ip(&format!("ip-{number}"));
    }
    let (kind, text) = refused(call(&client, "AllocateStaticIp"));
    assert_eq!(kind, "InvalidInputException");
    assert!(text.contains("maximum limit of Lightsail Static IPs : 5"), "{text}");
}
