use serde_json::{Value, json};

use super::{AccessDetails, Blueprint, Bundle, Instance, Operation, Port, Region, StaticIp, is_name};

/// As the service describes it.
pub fn instance(name: &str) -> Value {
    json!({
        "name": name,
        "arn": "arn:aws:lightsail:eu-central-1:123456789012:Instance/0f1e2d3c",
        "supportCode": "1/i-0",
        "createdAt": 1_764_288_000.123,
        "location": {"availabilityZone": "eu-central-1a", "regionName": "eu-central-1"},
        "resourceType": "Instance",
        "tags": [{"key": "outrigger:id", "value": "abc"}, {"key": "alone"}],
        "blueprintId": "debian_12",
        "bundleId": "micro_3_0",
        "isStaticIp": false,
        "publicIpAddress": "192.0.2.7",
        "networking": {"ports": [{"fromPort": 22, "toPort": 22, "protocol": "tcp", "cidrs": ["0.0.0.0/0"], "ipv6Cidrs": ["::/0"]}]},
        "state": {"code": 16, "name": "running"},
        "username": "debian",
        "metadataOptions": {"state": "applied", "httpTokens": "required", "httpEndpoint": "enabled"},
    })
}

/// A host key as the service describes it: `ssh-ed25519`, of zeros.
fn host_key() -> Value {
    json!({"algorithm": "ssh-ed25519", "publicKey": "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})
}

fn access() -> Value {
    json!({
        "privateKey": "-----BEGIN X-----\nabc\n-----END X-----\n",
        "certKey": "ssh-rsa-cert-v01@openssh.com AAAA",
        "username": "debian",
        "ipAddress": "192.0.2.7",
        "expiresAt": 1_764_288_000,
        "hostKeys": [host_key()],
    })
}

/// The value with another member at a path such as `state/name`; `null` for a missing one.
fn with(mut value: Value, path: &str, member: Value) -> Value {
    *value.pointer_mut(&format!("/{path}")).expect("a member") = member;
    value
}

#[test]
fn an_instance_is_read_as_the_service_describes_it() {
    let read = Instance::read(&instance("green-vm")).expect("an instance");
    assert_eq!(read.created.to_string(), "2025-11-28T00:00:00.123Z");
    assert_eq!(
        (read.zone.as_str(), read.image.as_str(), read.size.as_str()),
        ("eu-central-1a", "debian_12", "micro_3_0")
    );
    assert_eq!((read.state.as_str(), read.user.as_str()), ("running", "debian"));
    assert_eq!(read.address.map(|address| address.to_string()).as_deref(), Some("192.0.2.7"));
    assert_eq!(read.tags["outrigger:id"], "abc");
    assert_eq!(read.tags["alone"], "");
    assert_eq!(read.ports[0].ipv6_cidrs.iter().collect::<Vec<_>>(), ["::/0"]);
    assert!(read.tokens_required && !read.has_static_ip);
    // Not applied yet, and without what comes later.
    let early = with(instance("green-vm"), "metadataOptions/state", json!("pending"));
    let early = with(with(early, "publicIpAddress", Value::Null), "networking", Value::Null);
    let read = Instance::read(&early).expect("an instance");
    assert!(!read.tokens_required && read.address.is_none() && read.ports.is_empty());
}

#[test]
fn a_hostile_instance_is_refused() {
    for (path, member) in [
        ("name", json!("-oProxyCommand=x")),
        ("name", json!("a b")),
        ("name", Value::Null),
        ("arn", json!("i-0123")),
        ("arn", json!("arn:aws:a b")),
        ("createdAt", json!("yesterday")),
        ("createdAt", json!(-1)),
        ("createdAt", json!(1e18)),
        ("location", json!([])),
        ("publicIpAddress", json!("192.0.2.7 ")),
        ("publicIpAddress", json!("2001:db8::1")),
        ("publicIpAddress", json!("-oProxyCommand=x")),
        ("publicIpAddress", json!(7)),
        ("state/name", json!("run\u{1b}[2Jning")),
        ("state/name", json!("x".repeat(600))),
        ("username", json!("-l")),
        ("username", json!("a;b")),
        ("tags", json!({"a": "b"})),
        ("tags", json!(vec![json!({"key": "a"}); 300])),
        ("tags/0/value", json!("a\u{202e}b")),
        ("networking/ports/0/fromPort", json!(70000)),
        ("networking/ports/0/toPort", json!("22")),
        ("networking/ports/0/cidrs", json!([1])),
        ("networking/ports/0/protocol", Value::Null),
    ] {
        let value = with(instance("green-vm"), path, member.clone());
        assert!(Instance::read(&value).is_err(), "{path} {member}");
    }
    assert!(Instance::read(&json!([])).is_err() && Instance::read(&Value::Null).is_err());
}

#[test]
fn access_details_become_a_login_with_pinned_keys() {
    let read = AccessDetails::read(&access()).expect("details");
    assert_eq!(
        read.host_keys,
        ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
    );
    assert_eq!(read.expires.map(|time| time.to_string()).as_deref(), Some("2025-11-28T00:00:00Z"));
    let early = with(with(access(), "hostKeys", Value::Null), "ipAddress", Value::Null);
    let read = AccessDetails::read(&early).expect("details");
    assert!(read.host_keys.is_empty() && read.address.is_none());
    for (path, member) in [
        ("privateKey", json!("")),
        ("privateKey", json!("a\u{0}b")),
        ("privateKey", json!("x".repeat(17 * 1024))),
        ("certKey", json!("é")),
        ("username", Value::Null),
        ("username", json!("root -o")),
        ("hostKeys/0/algorithm", json!("ssh-rsa")),
        ("hostKeys/0/algorithm", json!("* ssh-ed25519")),
        ("hostKeys/0/publicKey", json!("AAAA\nhost ssh-rsa AAAA")),
        ("hostKeys/0/publicKey", json!("not base64")),
        ("hostKeys/0/publicKey", Value::Null),
        ("hostKeys", json!("ssh-ed25519")),
    ] {
        assert!(AccessDetails::read(&with(access(), path, member.clone())).is_err(), "{path} {member}");
    }
    let shown = format!("{:?}", AccessDetails::read(&access()).expect("details"));
    assert!(!shown.contains("abc") && !shown.contains("cert-v01"), "{shown}");
}

#[test]
fn bundles_blueprints_regions_and_operations_are_read() {
    let bundle = json!({"bundleId": "micro_3_0", "price": 7.0, "ramSizeInGb": 1.0, "isActive": true, "power": 500, "supportedPlatforms": ["LINUX_UNIX"]});
    let read = Bundle::read(&bundle).expect("a bundle");
    assert_eq!((read.price, read.power, read.ipv4_count, read.is_active), (700, 500, 1, true));
    let ipv6 =
        json!({"bundleId": "micro_ipv6_3_0", "price": 3.5, "ramSizeInGb": 0.5, "publicIpv4AddressCount": 0});
    let read = Bundle::read(&ipv6).expect("a bundle");
    assert_eq!((read.price, read.ipv4_count, read.is_active), (350, 0, false));
    for odd in [
        json!({"bundleId": "a", "ramSizeInGb": 1}),
        json!({"bundleId": "a", "ramSizeInGb": 1, "price": -1}),
        json!({"bundleId": "a", "price": 1e9, "ramSizeInGb": 1}),
    ] {
        assert!(Bundle::read(&odd).is_err(), "{odd}");
    }
    let blueprint = json!({"blueprintId": "debian_12", "platform": "LINUX_UNIX", "type": "os", "group": "debian", "isActive": true, "minPower": 0, "version": "12"});
    assert_eq!(Blueprint::read(&blueprint).expect("a blueprint").group, "debian");
    let region = json!({"name": "eu-central-1", "availabilityZones": [{"zoneName": "eu-central-1a", "state": "available"}]});
    assert_eq!(Region::read(&region).expect("a region").zones[0].name, "eu-central-1a");
    let failed = json!({"operations": [{"id": "1", "status": "Failed", "isTerminal": true, "errorCode": "X", "errorDetails": "a\u{1b}b"}]});
    let read = Operation::all(&failed).expect("operations");
    assert!(read[0].has_failed() && read[0].error_details == "ab");
    let address = json!({"name": "green-ip", "arn": "arn:aws:lightsail::1:StaticIp/x", "ipAddress": "192.0.2.9", "attachedTo": "green-vm"});
    assert_eq!(StaticIp::read(&address).expect("an address").attached_to.as_deref(), Some("green-vm"));
}

#[test]
fn ports_are_equal_as_sets() {
    let port = |cidrs: &[&str]| {
        Port::read(&json!({"fromPort": 22, "toPort": 22, "protocol": "tcp", "cidrs": cidrs}))
    };
    assert_eq!(
        port(&["192.0.2.0/24", "198.51.100.0/24"]),
        port(&["198.51.100.0/24", "192.0.2.0/24", "192.0.2.0/24"])
    );
    assert_ne!(port(&["192.0.2.0/24"]), port(&["192.0.2.0/25"]));
}

#[test]
fn names_follow_the_services_pattern() {
    for name in ["ab", "green-vm", "a_b.c", "0-1"] {
        assert!(is_name(name), "{name}");
    }
    for name in ["", "a", "-ab", "ab-", ".ab", "a b", "a/b", "ä-b", "a\nb"] {
        assert!(!is_name(name), "{name}");
    }
}
