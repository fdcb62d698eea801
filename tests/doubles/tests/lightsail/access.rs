//! Who may call the Lightsail: signatures, permissions, expiry, and the Security Token Service.

use std::time::Duration;

use crate::client::{at_once, but, good, refused, wish};
use jiff::{SignedDuration, Timestamp};
use outrigger_doubles::http::{Http, Reply};
use outrigger_doubles::lightsail::{Client, FakeLightsail, KeySpec, Options};
use serde_json::json;

const TARGET: (&str, &str) = ("x-amz-target", "Lightsail_20161128.GetRegions");
const JSON: (&str, &str) = ("content-type", "application/x-amz-json-1.1");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
const ASK: &[u8] = b"Action=GetCallerIdentity&Version=2011-06-15";

fn of(reply: &Reply) -> (String, String) {
    refused((reply.status, reply.json()))
}

#[test]
fn a_signature_covers_all_of_a_request() {
    let (lightsail, client) = at_once();
    let signed = |at| client.signed("lightsail", &[TARGET, JSON], b"{}", at).expect("an answer");
    assert_eq!(signed(Timestamp::now()).status, 200);
    let key = lightsail.key("admin");
    let date = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let scope = format!("{}/{}/eu-central-1/lightsail/aws4_request", key.id, &date[..8]);
    let plain = Http::new(&lightsail.url(), "");
    let send = |headers: &str| {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={headers}, Signature={}",
            "0".repeat(64)
        );
        let sent = [TARGET, JSON, ("x-amz-date", &date), ("authorization", authorization.as_str())];
        of(&plain.send("POST", "/", &sent, b"{}").expect("an answer"))
    };
    let (kind, text) = send("content-type;host;x-amz-date;x-amz-target");
    assert_eq!(kind, "InvalidSignatureException");
    assert!(text.contains("signature we calculated does not match"), "{text}");
    for missing in ["content-type", "host", "x-amz-date", "x-amz-target"] {
        let left: Vec<&str> = ["content-type", "host", "x-amz-date", "x-amz-target"]
            .into_iter()
            .filter(|name| *name != missing)
            .collect();
        let (kind, text) = send(&left.join(";"));
        assert_eq!((kind.as_str(), text.contains(missing)), ("InvalidSignatureException", true), "{text}");
    }
    assert!(send("host;content-type;x-amz-date;x-amz-target").1.contains("not sorted"));
    let none = of(&plain.send("POST", "/", &[TARGET, JSON], b"{}").expect("an answer"));
    assert_eq!(none.0, "MissingAuthenticationTokenException");
    let odd = [TARGET, JSON, ("authorization", "Bearer of news")];
    assert_eq!(
        of(&plain.send("POST", "/", &odd, b"{}").expect("an answer")).0,
        "IncompleteSignatureException"
    );
    let service = of(&client.signed("s3", &[TARGET, JSON], b"{}", Timestamp::now()).expect("an answer"));
    assert!(service.1.contains("correct service: 'lightsail'"), "{service:?}");
    let region = refused(Client::of(&lightsail, "admin").within("ap-south-1").call("GetRegions", &json!({})));
    assert_eq!(region.0, "InvalidSignatureException");
    assert!(region.1.contains("valid region, not 'ap-south-1'"), "{region:?}");
}

#[test]
fn a_clock_may_be_five_minutes_off() {
    let (lightsail, client) = at_once();
    let at = |seconds| {
        let at = Timestamp::now() + SignedDuration::from_secs(seconds);
        client.signed("lightsail", &[TARGET, JSON], b"{}", at).expect("an answer")
    };
    assert_eq!((at(-280).status, at(280).status), (200, 200));
    let (kind, text) = of(&at(-320));
    assert_eq!(kind, "InvalidSignatureException");
    assert!(text.starts_with("Signature expired: ") && text.ends_with(" - 5 min.)"), "{text}");
    assert!(of(&at(320)).1.starts_with("Signature not yet current: "));
    lightsail.advance(Duration::from_secs(600));
    let late = refused(client.call("GetRegions", &json!({})));
    assert!(late.1.starts_with("Signature expired: "), "{late:?}");
    assert_eq!(at(600).status, 200);
}

#[test]
fn keys_are_known_and_valid_or_refused_before_anything_else() {
    let (lightsail, _) = at_once();
    let (other, _) = at_once();
    let call = |key: &str| Client::of(&lightsail, key).call("GetRegions", &json!({}));
    for key in ["admin", "session", "reader", "stranger"] {
        good(call(key));
    }
    assert_eq!(refused(call("expired")).0, "ExpiredTokenException");
    let stolen = Client::of(&other, "admin").at(&lightsail);
    assert_eq!(refused(stolen.call("GetRegions", &json!({}))).0, "UnrecognizedClientException");
    let session = Client::of(&lightsail, "session");
    lightsail.expire("session");
    assert_eq!(refused(session.call("GetRegions", &json!({}))).0, "ExpiredTokenException");
}

#[test]
fn a_denied_action_is_named_and_nothing_is_done() {
    let tagless = KeySpec::new("tagless", &["lightsail:Get*", "lightsail:CreateInstances"]);
    let options = Options { keys: vec![tagless], ..Options::default() };
    let (lightsail, admin) = crate::client::with(options);
    let before = lightsail.snapshot();
    let (kind, text) = refused(Client::of(&lightsail, "reader").call("CreateInstances", &wish("vm")));
    assert_eq!(kind, "AccessDeniedException");
    let arn =
        "User: arn:aws:iam::123456789012:user/reader is not authorized to perform: lightsail:CreateInstances";
    assert!(text.starts_with(arn), "{text}");
    // Tags at creation need an action of their own.
    let tagless = Client::of(&lightsail, "tagless");
    let tagged = but(wish("vm"), "tags", json!([{"key": "a", "value": "b"}]));
    assert!(refused(tagless.call("CreateInstances", &tagged)).1.contains("lightsail:TagResource"));
    assert_eq!(lightsail.snapshot(), before);
    good(tagless.call("CreateInstances", &wish("vm")));
    lightsail.deny("admin", "lightsail:GetRegions");
    let (_, text) = refused(admin.call("GetRegions", &json!({})));
    assert!(text.ends_with("with an explicit deny in an identity-based policy"), "{text}");
}

#[test]
fn accounts_do_not_see_each_other() {
    let (lightsail, client) = at_once();
    good(client.call("CreateInstances", &wish("vm")));
    let stranger = Client::of(&lightsail, "stranger");
    assert_eq!(refused(stranger.call("GetInstance", &json!({"instanceName": "vm"}))).0, "NotFoundException");
    good(stranger.call("CreateInstances", &wish("vm")));
}

#[test]
fn the_token_service_says_who_calls_in_xml_or_json() {
    let (lightsail, client) = at_once();
    let ask = |client: &Client, headers: &[(&str, &str)], body: &[u8]| {
        client.signed("sts", headers, body, Timestamp::now()).expect("an answer")
    };
    let reply = ask(&client, &[FORM], ASK);
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/xml"));
    for part in ["<Account>123456789012</Account>", "<Arn>arn:aws:iam::123456789012:user/admin</Arn>"] {
        assert!(reply.text().contains(part), "{}", reply.text());
    }
    let accept = ("accept", "application/json");
    let result = ask(&Client::of(&lightsail, "session"), &[FORM, accept], ASK).json();
    let result = &result["GetCallerIdentityResponse"]["GetCallerIdentityResult"];
    assert_eq!(result["Arn"], "arn:aws:sts::123456789012:assumed-role/session/session-session");
    assert_eq!(result["Account"], "123456789012");
    let expired = ask(&Client::of(&lightsail, "expired"), &[FORM], ASK);
    assert_eq!(expired.status, 403);
    assert!(expired.text().contains("<Code>ExpiredToken</Code>"), "{}", expired.text());
    let old = ask(&client, &[FORM, accept], b"Action=GetCallerIdentity&Version=2010-01-01");
    assert_eq!(old.json()["Error"]["Code"], "InvalidAction");
    let wrong = client.signed("lightsail", &[FORM, accept], ASK, Timestamp::now()).expect("an answer").json();
    assert_eq!(wrong["Error"]["Code"], "SignatureDoesNotMatch");
    assert_eq!(lightsail.requests()[0].operation, "GetCallerIdentity");
}

#[test]
fn no_secret_is_shown() {
    let (lightsail, client) = at_once();
    good(client.call("GetRegions", &json!({})));
    let key = lightsail.key("session");
    let shown = format!("{key:?} {:?} {:?}", lightsail.requests(), Options::default());
    assert!(shown.contains(&key.id), "{shown}");
    assert!(!shown.contains(&key.secret) && !shown.contains(&key.session_token), "{shown}");
}

#[test]
fn tls_has_a_certificate_of_the_ca_that_is_told() {
    let lightsail = FakeLightsail::start(Options { tls: true, ..Options::default() });
    assert!(lightsail.url().starts_with("https://"));
    good(Client::of(&lightsail, "admin").call("GetRegions", &json!({})));
}
