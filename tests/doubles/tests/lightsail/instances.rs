//! The life of an instance of the Lightsail.

use std::process::Command;
use std::time::Duration;

use crate::client::{at_once, but, good, instance, refused, wish, with};
use outrigger_doubles::lightsail::{DEFAULT_KEY_PAIR, Foreign, Lags, Options};
use serde_json::{Value, json};

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
    let lag = Duration::from_secs;
    let lags = Lags {
        found: lag(10),
        running: lag(30),
        address: lag(20),
        host_keys: lag(20),
        operation: lag(60),
        deletion: lag(30),
        ..Lags::NONE
    };
    let (lightsail, client) = with(Options { lags, ..Options::default() });
    let id = good(client.call("CreateInstances", &wish("vm")))["operations"][0]["id"].clone();
    let operation = || {
        let operation = good(client.call("GetOperation", &json!({"operationId": id})))["operation"].clone();
        (operation["status"].clone(), operation["isTerminal"].clone())
    };
    let access =
        || client.call("GetInstanceAccessDetails", &json!({"instanceName": "vm", "protocol": "ssh"}));
    let vm =
        || instance(&client, "vm").map(|vm| (vm["state"]["name"].clone(), vm["publicIpAddress"].clone()));
    assert_eq!((vm(), operation()), (None, (json!("Started"), json!(false))));
    assert_eq!(refused(client.call("CreateInstances", &wish("vm"))).0, "InvalidInputException");
    lightsail.advance(lag(10));
    assert_eq!(vm(), Some((json!("pending"), Value::Null)));
    assert_eq!(refused(access()).0, "OperationFailureException");
    lightsail.advance(lag(20));
    assert_eq!(vm(), Some((json!("running"), Value::Null)));
    assert!(good(access())["accessDetails"]["ipAddress"].is_null());
    lightsail.advance(lag(20));
    let (_, address) = vm().expect("it is there");
    let early = good(access())["accessDetails"].clone();
    assert!(address.is_string(), "{address}");
    assert_eq!((&early["ipAddress"], &early["hostKeys"]), (&address, &json!([])));
    assert_eq!(operation().0, "Started");
    lightsail.advance(lag(20));
    assert_eq!(operation(), (json!("Succeeded"), json!(true)));
    assert_eq!(good(access())["accessDetails"]["hostKeys"][0]["algorithm"], "ssh-ed25519");
    good(client.call("DeleteInstance", &json!({"instanceName": "vm"})));
    assert_eq!(vm().expect("not yet").0, "shutting-down");
    assert_eq!(refused(client.call("CreateInstances", &wish("vm"))).0, "InvalidInputException");
    lightsail.advance(lag(30));
    assert_eq!(vm(), None);
    good(client.call("CreateInstances", &wish("vm")));
}

#[test]
fn what_takes_for_ever_never_comes() {
    let lags = Lags { address: Duration::MAX, ..Lags::NONE };
    let (_lightsail, client) = with(Options { lags, ..Options::default() });
    good(client.call("CreateInstances", &wish("vm")));
    let vm = instance(&client, "vm").expect("it is there");
    assert_eq!((&vm["state"]["name"], &vm["publicIpAddress"]), (&json!("running"), &Value::Null));
    let details = good(client.call("GetInstanceAccessDetails", &json!({"instanceName": "vm"})));
    assert_eq!(details["accessDetails"]["hostKeys"], json!([]));
}

#[test]
fn a_wish_that_cannot_be_met_is_refused() {
    let (lightsail, client) = at_once();
    let tags = |key: &str, value: &str| json!([{"key": key, "value": value}]);
    let twice = json!([{"key": "a", "value": "b"}, {"key": "a", "value": "c"}]);
    let many: Value = (0..51).map(|number| json!({"key": format!("k{number}")})).collect();
    let before = lightsail.snapshot();
    for (member, value) in [
        ("instanceNames", json!([])),
        ("instanceNames", json!(["v"])),
        ("instanceNames", json!(["a b"])),
        ("instanceNames", json!(["vm.example"])),
        ("instanceNames", json!(["vm", "vm"])),
        ("availabilityZone", json!("eu-central-1")),
        ("availabilityZone", json!("eu-central-1a")),
        ("availabilityZone", json!("us-east-1b")),
        ("blueprintId", json!("ubuntu_26_04")),
        ("blueprintId", json!("ubuntu_20_04")),
        ("blueprintId", json!("windows_server_2022")),
        ("bundleId", json!("micro_1_0")),
        ("bundleId", json!("micro_2_0")),
        ("bundleId", json!("micro_win_3_0")),
        ("bundleId", json!("micro_ipv6_3_0")),
        ("bundleId", json!("app_standard_xl_1_0")),
        ("ipAddressType", json!("ipv6")),
        ("ipAddressType", json!("both")),
        ("userData", json!("#".repeat(16 * 1024 + 1))),
        ("addOns", json!([{"addOnType": "AutoSnapshot"}])),
        ("tags", tags("", "b")),
        ("tags", tags("aws:id", "b")),
        ("tags", tags("a;b", "c")),
        ("tags", tags("a", &"b".repeat(257))),
        ("tags", twice),
        ("tags", many),
    ] {
        let (kind, text) = refused(client.call("CreateInstances", &but(wish("vm"), member, value)));
        assert_eq!(kind, "InvalidInputException", "{member}: {text}");
    }
    let (kind, text) =
        refused(client.call("CreateInstances", &but(wish("vm"), "keyPairName", json!("mine"))));
    assert_eq!((kind.as_str(), text.as_str()), ("NotFoundException", "The KeyPair does not exist: mine"));
    assert_eq!(lightsail.snapshot(), before);
}

#[test]
fn login_is_by_a_key_whose_certificate_ends_soon() {
    let (_lightsail, client) = at_once();
    good(client.call("CreateInstances", &but(wish("vm"), "blueprintId", json!("debian_12"))));
    let details = good(client.call("GetInstanceAccessDetails", &json!({"instanceName": "vm"})));
    let details = &details["accessDetails"];
    assert_eq!((&details["username"], &details["protocol"]), (&json!("admin"), &json!("ssh")));
    let now = jiff::Timestamp::now().as_second();
    let left =
        details["expiresAt"].as_f64().expect("a time") - f64::from(i32::try_from(now).expect("this century"));
    assert!((700.0..800.0).contains(&left), "{left}");
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, member: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, details[member].as_str().expect("a text")).expect("it is written");
        path
    };
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new("ssh-keygen").args(arguments).output().expect("ssh-keygen is installed");
        String::from_utf8(output.stdout).expect("text")
    };
    let certificate = write("key-cert.pub", "certKey");
    let shown = run(&["-L".as_ref(), "-f".as_ref(), certificate.as_os_str()]);
    assert!(shown.contains("ecdsa-sha2-nistp256-cert-v01@openssh.com user certificate"), "{shown}");
    assert!(shown.contains("(using ssh-rsa)") && shown.contains("admin"), "{shown}");
    let key = write("key", "privateKey");
    std::process::Command::new("chmod").arg("600").arg(&key).status().expect("chmod runs");
    let public = run(&["-y".as_ref(), "-f".as_ref(), key.as_os_str()]);
    assert!(public.starts_with("ecdsa-sha2-nistp256 "), "{public}");
    let host = &details["hostKeys"][0];
    let line = format!(
        "{} {}\n",
        host["algorithm"].as_str().expect("one"),
        host["publicKey"].as_str().expect("one")
    );
    let pinned = folder.path().join("host.pub");
    std::fs::write(&pinned, line).expect("it is written");
    let printed = run(&["-l".as_ref(), "-f".as_ref(), pinned.as_os_str()]);
    assert!(printed.contains(host["fingerprintSHA256"].as_str().expect("one")), "{printed}");
}

#[test]
fn there_is_no_key_for_an_instance_with_a_key_pair_of_its_own() {
    let (lightsail, client) = at_once();
    lightsail.put_key_pair("mine");
    good(client.call("CreateInstances", &but(wish("vm"), "keyPairName", json!("mine"))));
    let details = good(client.call("GetInstanceAccessDetails", &json!({"instanceName": "vm"})));
    assert!(
        details["accessDetails"]["privateKey"].is_null() && details["accessDetails"]["certKey"].is_null()
    );
    assert!(lightsail.snapshot()["123456789012"]["eu-central-1"][DEFAULT_KEY_PAIR].is_null());
}

#[test]
fn metadata_options_are_pending_before_they_are_applied() {
    let lags = Lags { metadata: Duration::from_secs(60), ..Lags::NONE };
    let (lightsail, client) = with(Options { lags, ..Options::default() });
    good(client.call("CreateInstances", &wish("vm")));
    let options = || instance(&client, "vm").expect("it is there")["metadataOptions"].clone();
    let (tokens, state) = (options()["httpTokens"].clone(), options()["state"].clone());
    assert_eq!((tokens, state), (json!("optional"), json!("applied")));
    let update = |members: Value| client.call("UpdateInstanceMetadataOptions", &members);
    good(update(json!({"instanceName": "vm", "httpTokens": "required"})));
    assert_eq!(options()["state"], "pending");
    lightsail.advance(Duration::from_secs(60));
    assert_eq!(
        (options()["httpTokens"].clone(), options()["state"].clone()),
        (json!("required"), json!("applied"))
    );
    good(update(json!({"instanceName": "vm", "httpEndpoint": "disabled", "httpPutResponseHopLimit": 2})));
    assert_eq!(
        options(),
        json!({
            "state": "pending", "httpTokens": "required", "httpEndpoint": "disabled", "httpPutResponseHopLimit": 2,
            "httpProtocolIpv6": "disabled",
        })
    );
    let hops = refused(update(json!({"instanceName": "vm", "httpPutResponseHopLimit": 65})));
    assert_eq!(hops.0, "InvalidInputException");
}

#[test]
fn tags_are_added_and_replaced() {
    let (lightsail, client) = at_once();
    let arn = lightsail.put_instance(Foreign {
        tags: vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())],
        ..Foreign::new("vm")
    });
    let tags = json!([{"key": "b", "value": "3"}, {"key": "c"}]);
    good(client.call("TagResource", &json!({"resourceName": "vm", "tags": tags})));
    let shown = instance(&client, "vm").expect("it is there");
    assert_eq!(shown["tags"], json!([{"key": "a", "value": "1"}, {"key": "b", "value": "3"}, {"key": "c"}]));
    assert_eq!(shown["arn"], arn);
    let other = "arn:aws:lightsail:eu-central-1:123456789012:Instance/0-0";
    let wrong = json!({"resourceName": "vm", "resourceArn": other, "tags": tags});
    assert_eq!(refused(client.call("TagResource", &wrong)).0, "NotFoundException");
}

#[test]
fn what_is_put_there_and_taken_away_is_in_the_snapshot() {
    let (lightsail, client) = at_once();
    let empty = lightsail.snapshot();
    lightsail.put_instance(Foreign::new("vm"));
    lightsail.put_static_ip("ip");
    lightsail.open("vm", ("tcp", 443), &["0.0.0.0/0"], &[]);
    let both = lightsail.snapshot();
    assert_eq!(both["123456789012"]["eu-central-1"]["vm"]["ports"].as_array().map(Vec::len), Some(3));
    let vm = instance(&client, "vm").expect("it is there");
    assert_eq!((&vm["state"]["name"], vm["publicIpAddress"].is_string()), (&json!("running"), true));
    lightsail.take("vm");
    assert!(instance(&client, "vm").is_none());
    assert_ne!(lightsail.snapshot(), both);
    lightsail.take("ip");
    assert_eq!(lightsail.snapshot(), empty);
}

#[test]
fn an_operation_is_found_by_its_id_in_its_region() {
    let (_lightsail, client) = at_once();
    let id = good(client.call("CreateInstances", &wish("vm")))["operations"][0]["id"].clone();
    let operation = good(client.call("GetOperation", &json!({"operationId": id})))["operation"].clone();
    assert_eq!((&operation["status"], &operation["isTerminal"]), (&json!("Succeeded"), &json!(true)));
    assert_eq!((&operation["resourceName"], &operation["resourceType"]), (&json!("vm"), &json!("Instance")));
    let elsewhere = client.within("us-east-1");
    assert_eq!(refused(elsewhere.call("GetOperation", &json!({"operationId": id}))).0, "NotFoundException");
}
