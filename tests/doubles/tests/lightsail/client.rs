//! What the trials of the Lightsail have in common.

use outrigger_doubles::lightsail::{Client, FakeLightsail, Lags, Options};
use serde_json::{Value, json};

/// A Lightsail where everything is at once, and its administrator.
pub fn at_once() -> (FakeLightsail, Client) {
    with(Options { lags: Lags::NONE, ..Options::default() })
}

/// A Lightsail, and its administrator.
pub fn with(options: Options) -> (FakeLightsail, Client) {
    let lightsail = FakeLightsail::start(options);
    let client = Client::of(&lightsail, "admin");
    (lightsail, client)
}

/// What `CreateInstances` needs.
pub fn wish(name: &str) -> Value {
    json!({
        "instanceNames": [name], "availabilityZone": "eu-central-1b", "blueprintId": "ubuntu_24_04",
        "bundleId": "micro_3_0",
    })
}

/// Another value of a member.
pub fn but(mut value: Value, member: &str, other: Value) -> Value {
    value[member] = other;
    value
}

/// An answer that must be a good one.
pub fn good((status, answer): (u16, Value)) -> Value {
    assert_eq!(status, 200, "{answer}");
    answer
}

/// A refusal's type, without its namespace, and its message.
pub fn refused((status, answer): (u16, Value)) -> (String, String) {
    assert!(status >= 400, "not refused: {answer}");
    let kind = answer["__type"].as_str().unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default().to_owned();
    assert_eq!(status, if kind == "ServiceException" { 500 } else { 400 }, "{answer}");
    (kind, answer["message"].as_str().unwrap_or_default().to_owned())
}

/// An instance as `GetInstance` shows it, if it does.
pub fn instance(client: &Client, name: &str) -> Option<Value> {
    let (status, answer) = client.call("GetInstance", &json!({"instanceName": name}));
    (status == 200).then(|| answer["instance"].clone())
}
