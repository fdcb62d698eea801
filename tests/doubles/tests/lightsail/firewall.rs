//! The firewall of the Lightsail's instances.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::{at_once, good, instance, refused, wish, with};
use outrigger_doubles::lightsail::{Client, Hardware, Lags, OpenPort, Options};
use serde_json::{Value, json};

fn ssh(cidrs: &Value) -> Value {
    json!({"fromPort": 22, "toPort": 22, "protocol": "tcp", "cidrs": cidrs, "ipv6Cidrs": []})
}

fn put(client: &Client, ports: &Value) -> (u16, Value) {
    client.call("PutInstancePublicPorts", &json!({"instanceName": "vm", "portInfos": ports}))
}

fn close(client: &Client, port: &Value) -> (u16, Value) {
    client.call("CloseInstancePublicPorts", &json!({"instanceName": "vm", "portInfo": port}))
}

fn states(client: &Client) -> Value {
    good(client.call("GetInstancePortStates", &json!({"instanceName": "vm"})))["portStates"].clone()
}

#[test]
fn ssh_and_http_are_open_to_the_world_until_others_are_put() {
    let (_lightsail, client) = at_once();
    good(client.call("CreateInstances", &wish("vm")));
    let open = |port: i64| {
        json!({
            "fromPort": port, "toPort": port, "protocol": "tcp", "state": "open", "cidrs": ["0.0.0.0/0"],
            "ipv6Cidrs": ["::/0"], "cidrListAliases": [],
        })
    };
    assert_eq!(states(&client), json!([open(22), open(80)]));
    let shown = &instance(&client, "vm").expect("it is there")["networking"]["ports"][0];
    assert_eq!(shown["accessFrom"], "Anywhere (0.0.0.0/0 and ::/0)");
    let done = good(put(&client, &json!([ssh(&json!(["192.0.2.7", "198.51.100.0/24"]))])));
    assert_eq!(done["operation"]["status"], "Succeeded");
    let left = states(&client);
    assert_eq!(left[0]["cidrs"], json!(["192.0.2.7/32", "198.51.100.0/24"]));
    assert_eq!((left[0]["ipv6Cidrs"].clone(), left.as_array().map(Vec::len)), (json!([]), Some(1)));
    let console = json!({
        "fromPort": 22, "toPort": 22, "protocol": "tcp", "cidrs": [], "ipv6Cidrs": [],
        "cidrListAliases": ["lightsail-connect"],
    });
    good(put(&client, &json!([console])));
    assert_eq!(states(&client)[0]["cidrListAliases"], json!(["lightsail-connect"]));
}

#[test]
fn a_family_that_is_not_mentioned_is_open() {
    let (_lightsail, client) = at_once();
    good(client.call("CreateInstances", &wish("vm")));
    let port = json!({"fromPort": 22, "toPort": 22, "protocol": "tcp", "cidrs": ["192.0.2.7/32"]});
    good(put(&client, &json!([port])));
    assert_eq!(states(&client)[0]["ipv6Cidrs"], json!(["::/0"]));
}

#[test]
fn ports_that_make_no_sense_are_refused() {
    let (_lightsail, client) = at_once();
    good(client.call("CreateInstances", &wish("vm")));
    let before = states(&client);
    let port = |member: &str, value: Value| crate::client::but(ssh(&json!(["0.0.0.0/0"])), member, value);
    for ports in [
        json!([]),
        json!([ssh(&json!([]))]),
        json!([ssh(&json!(["192.0.2.7/33"]))]),
        json!([ssh(&json!(["example.com"]))]),
        json!([port("ipv6Cidrs", json!(["0.0.0.0/0"]))]),
        json!([port("cidrListAliases", json!(["anybody"]))]),
        json!([port("toPort", json!(21))]),
        json!([port("fromPort", json!(-1))]),
        json!([port("protocol", json!("all"))]),
        json!([port("protocol", json!("sctp"))]),
        json!([{"fromPort": 22, "toPort": 22}]),
        json!([ssh(&json!(["192.0.2.7"])), ssh(&json!(["192.0.2.8"]))]),
    ] {
        assert_eq!(refused(put(&client, &ports)).0, "InvalidInputException", "{ports}");
    }
    assert_eq!(states(&client), before);
    assert_eq!(refused(put(&client, &json!([port("state", json!("open"))]))).0, "SerializationException");
}

#[test]
fn a_port_is_closed_once_and_only_as_far_as_it_is_named() {
    let (_lightsail, client) = at_once();
    good(client.call("CreateInstances", &wish("vm")));
    let http = json!({"fromPort": 80, "toPort": 80, "protocol": "tcp"});
    good(close(&client, &http));
    assert_eq!(states(&client).as_array().map(Vec::len), Some(1));
    assert_eq!(refused(close(&client, &http)).0, "InvalidInputException");
    good(put(&client, &json!([ssh(&json!(["192.0.2.7", "192.0.2.8"]))])));
    good(close(&client, &ssh(&json!(["192.0.2.7"]))));
    assert_eq!(states(&client)[0]["cidrs"], json!(["192.0.2.8/32"]));
    good(close(&client, &json!({"fromPort": 22, "toPort": 22, "protocol": "tcp"})));
    assert_eq!(states(&client), json!([]));
}

#[test]
fn ports_wait_until_the_instance_runs() {
    let lags = Lags { running: Duration::from_secs(60), ..Lags::NONE };
    let (lightsail, client) = with(Options { lags, ..Options::default() });
    good(client.call("CreateInstances", &wish("vm")));
    let ports = json!([ssh(&json!(["192.0.2.7"]))]);
    assert_eq!(refused(put(&client, &ports)).0, "OperationFailureException");
    lightsail.advance(Duration::from_secs(60));
    good(put(&client, &ports));
}

/// A machine that remembers what it was told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn note(&self, what: String) {
        self.0.lock().expect("nobody panics").push(what);
    }
}

impl Hardware for Told {
    fn create(&self, name: &str, user_data: &str) {
        self.note(format!("create {name} {user_data}"));
    }
    fn address(&self, _name: &str) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::new(127, 77, 1, 1))
    }
    fn host_keys(&self, _name: &str) -> Vec<(String, String)> {
        vec![("ssh-ed25519".to_owned(), "AAAA".to_owned())]
    }
    fn access(&self, _name: &str) -> (String, String, String) {
        ("key".to_owned(), "certificate".to_owned(), "debian".to_owned())
    }
    fn ports(&self, name: &str, open: &[OpenPort]) {
        let open =
            open.iter().map(|port| format!("{} {}-{} {:?}", port.protocol, port.from, port.to, port.cidrs));
        self.note(format!("ports {name} {}", open.collect::<Vec<_>>().join(", ")));
    }
    fn moved(&self, name: &str, address: Ipv4Addr) {
        self.note(format!("moved {name} {}", address.is_loopback()));
    }
    fn power(&self, name: &str, on: bool) {
        self.note(format!("power {name} {on}"));
    }
    fn delete(&self, name: &str) {
        self.note(format!("delete {name}"));
    }
}

#[test]
fn the_machine_is_told_of_its_life_and_its_ports() {
    let told = Arc::new(Told::default());
    let options = Options { lags: Lags::NONE, hardware: told.clone(), ..Options::default() };
    let (lightsail, client) = with(options);
    good(client.call("CreateInstances", &crate::client::but(wish("vm"), "userData", json!("#!/bin/sh"))));
    assert_eq!(instance(&client, "vm").expect("it is there")["publicIpAddress"], "127.77.1.1");
    let access = good(client.call("GetInstanceAccessDetails", &json!({"instanceName": "vm"})));
    let access = &access["accessDetails"];
    assert_eq!((&access["privateKey"], &access["username"]), (&json!("key"), &json!("debian")));
    good(put(&client, &json!([ssh(&json!(["192.0.2.7"]))])));
    good(close(&client, &json!({"fromPort": 22, "toPort": 22, "protocol": "tcp"})));
    lightsail.open("vm", ("tcp", 443), &["0.0.0.0/0"], &["::/0"]);
    lightsail.stop("vm");
    lightsail.start_instance("vm");
    good(client.call("DeleteInstance", &json!({"instanceName": "vm"})));
    let told = told.0.lock().expect("nobody panics").clone();
    assert_eq!(
        told,
        [
            "create vm #!/bin/sh",
            "ports vm tcp 22-22 [\"192.0.2.7/32\"]",
            "ports vm ",
            "ports vm tcp 443-443 [\"0.0.0.0/0\", \"::/0\"]",
            "power vm false",
            "power vm true",
            "moved vm true",
            "delete vm",
        ]
    );
}
