//! The calls, on a server on loopback.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::server_tests::{Answer, Server, json as answer};
use super::{Api, Class, NewInstance, Port, Source};
use crate::base::body;
use crate::base::cancel::Cancel;
use crate::base::error::{Failure, Id, Kind};
use crate::base::files::Intake;
use crate::base::request::{Deadline, Limits};

pub fn limits() -> Limits {
    Limits {
        deadline: Deadline::after(Duration::from_secs(30)),
        request_timeout: Duration::from_secs(10),
        cancel: Cancel::default(),
        notice: Rc::new(|_, _, _| {}),
        trace: None,
    }
}

pub fn source(env: &[(&str, &str)]) -> Source {
    let env: BTreeMap<String, String> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Source { profile: None, metadata: false, env, intake: Rc::new(Intake::new(&Cancel::default(), |_| {})) }
}

const KEY: &str = "ASIACANARYKEYID";
const SECRET: &str = "canary+secret/access/key";
const TOKEN: &str = "canary//session//token==";

async fn api(server: &Server) -> Api {
    traced(server, &limits()).await
}

async fn traced(server: &Server, limits: &Limits) -> Api {
    let env = [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", TOKEN),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", &server.url),
    ];
    Api::connect(&source(&env), None, limits).await.expect("connected")
}

fn refused(kind: &str, message: &str) -> Answer {
    answer(if kind == "ServiceException" { 500 } else { 400 }, &json!({"__type": kind, "message": message}))
}

fn started() -> Value {
    json!({"operations": [{"id": "op-1", "status": "Started", "isTerminal": false, "operationType": "CreateInstance"}]})
}

fn new() -> NewInstance {
    NewInstance {
        name: "green-vm".to_owned(),
        zone: "eu-central-1a".to_owned(),
        image: "debian_12".to_owned(),
        size: "micro_3_0".to_owned(),
        tags: BTreeMap::from([("outrigger:id".to_owned(), "x".to_owned())]),
    }
}

#[tokio::test]
async fn a_call_has_target_body_and_signature() {
    let server = Server::start(|_, _| answer(200, &started()));
    let writer = api(&server).await.writer();
    let operations = writer.create(&new()).await.expect("created");
    assert_eq!((operations[0].id.as_str(), operations[0].is_terminal), ("op-1", false));
    assert_eq!(writer.mutations(), 1);
    let requests = server.requests();
    let [request] = requests.as_slice() else { panic!("one request: {requests:?}") };
    assert_eq!(request.line, "POST / HTTP/1.1\r\n");
    assert_eq!(request.header("x-amz-target"), "Lightsail_20161128.CreateInstances");
    assert_eq!(request.header("content-type"), "application/x-amz-json-1.1");
    assert_eq!(request.header("x-amz-security-token"), TOKEN);
    let signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, ";
    let authorization = request.header("authorization");
    assert!(authorization.starts_with(&format!("AWS4-HMAC-SHA256 Credential={KEY}/")), "{authorization}");
    assert!(authorization.contains("/eu-central-1/lightsail/aws4_request, "), "{authorization}");
    assert!(authorization.contains(signed), "{authorization}");
    let body: Value = serde_json::from_str(&request.body).expect("JSON");
    let expected = json!({
        "instanceNames": ["green-vm"], "availabilityZone": "eu-central-1a", "blueprintId": "debian_12",
        "bundleId": "micro_3_0", "tags": [{"key": "outrigger:id", "value": "x"}], "ipAddressType": "dualstack",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_creation_is_sent_again_only_if_aws_did_not_process_it() {
    for (first, sent, class) in [
        (refused("ThrottlingException", "Rate exceeded"), 2, None),
        (refused("ServiceException", "internal"), 1, Some(Class::Unavailable)),
        ((0, String::new(), Vec::new()), 1, Some(Class::Unreachable)),
        ((200, String::new(), b"{".to_vec()), 1, Some(Class::Malformed)),
        (
            refused("InvalidInputException", "Some names are already in use: green-vm"),
            1,
            Some(Class::NameTaken),
        ),
    ] {
        let told = format!("{first:?}");
        let ambiguous = class.is_some_and(|class| class != Class::NameTaken);
        let server = Server::start(move |_, n| if n == 0 { first.clone() } else { answer(200, &started()) });
        let writer = api(&server).await.writer();
        let end = writer.create(&new()).await;
        assert_eq!(end.as_ref().err().map(|refusal| refusal.class), class, "{told}");
        assert_eq!(end.as_ref().is_err_and(super::Refusal::is_ambiguous), ambiguous, "{told}");
        assert_eq!(server.requests().len(), sent, "{told}");
        assert_eq!(writer.mutations(), usize::from(class != Some(Class::NameTaken)), "{told}");
        // A deletion by name is no safer to repeat, a read is.
        let first = server.requests().len();
        let _ = writer.delete("green-vm").await;
        assert_eq!(server.requests().len(), first + 1);
    }
    let server = Server::start(|_, n| {
        if n == 0 { refused("ServiceException", "") } else { answer(200, &json!({"portStates": []})) }
    });
    assert_eq!(api(&server).await.port_states("green-vm").await.expect("read"), []);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn what_is_missing_is_none_and_deleted() {
    let server = Server::start(|_, _| {
        refused("com.amazonaws.lightsail#NotFoundException:http://internal/", "no such")
    });
    let writer = api(&server).await.writer();
    assert!(writer.instance("green-vm").await.expect("read").is_none());
    assert!(writer.static_ip("green-ip").await.expect("read").is_none());
    assert!(writer.delete("green-vm").await.expect("deleted").is_empty());
    assert_eq!(writer.mutations(), 0);
    let refusal = writer.operation("op-1").await.expect_err("no operation");
    assert_eq!((refusal.class, refusal.action()), (Class::NotFound, "lightsail:GetOperation"));
}

#[tokio::test]
async fn all_pages_are_read_and_an_endless_list_is_refused() {
    let page = |n: usize, next: &str| {
        let bundle = json!({"bundleId": format!("b{n}"), "price": 5.0, "ramSizeInGb": 0.5, "isActive": true});
        answer(200, &json!({"bundles": [bundle], "nextPageToken": next}))
    };
    let server = Server::start(move |request, n| {
        let asked = ["{}", r#"{"pageToken":"p1"}"#, r#"{"pageToken":"p2"}"#];
        assert_eq!(request.body, asked[n]);
        page(n, ["p1", "p2", ""][n])
    });
    let ids: Vec<String> =
        api(&server).await.bundles().await.expect("read").into_iter().map(|bundle| bundle.id).collect();
    assert_eq!(ids, ["b0", "b1", "b2"]);
    let server = Server::start(move |_, n| page(n, "same"));
    assert_eq!(api(&server).await.bundles().await.expect("read").len(), 2);
    let server = Server::start(move |_, n| page(n, &format!("p{n}")));
    let failure: Failure = api(&server).await.bundles().await.expect_err("endless").into();
    assert_eq!(failure.id, Id::AnswerTooLarge, "{failure:?}");
}

#[tokio::test]
async fn a_response_is_bounded() {
    let server = Server::start(|_, _| (200, String::new(), vec![b' '; 5 << 20]));
    let failure: Failure = api(&server).await.regions().await.expect_err("too large").into();
    assert_eq!(failure.id, Id::AnswerTooLarge, "{failure:?}");
    let server =
        Server::start(|_, _| (200, String::new(), format!("[{}0]", "0,".repeat(1_100_000)).into_bytes()));
    let failure: Failure = api(&server).await.regions().await.expect_err("too many").into();
    assert_eq!(failure.id, Id::AnswerTooLarge, "{failure:?}");
}

#[tokio::test]
async fn no_key_is_traced_or_told() {
    const PRIVATE: &str = "-----BEGIN EC PRIVATE KEY-----\ncanary-private\n-----END EC PRIVATE KEY-----\n";
    let shown = Rc::new(RefCell::new(String::new()));
    let sink = Rc::clone(&shown);
    let limits = Limits {
        trace: Some(Rc::new(move |traced| {
            let (sent, received) = (body::shown(traced.sent), body::shown(traced.received));
            let _ = writeln!(sink.borrow_mut(), "{} {:?} {sent} {received}", traced.path, traced.status);
            let raw = String::from_utf8_lossy(traced.received).into_owned();
            sink.borrow_mut().push_str(&raw);
        })),
        ..limits()
    };
    let server = Server::start(|_, n| match n {
        0 => answer(
            200,
            &json!({"accessDetails": {
                "privateKey": PRIVATE, "certKey": "ecdsa-cert canary-certificate", "password": "canary-password",
                "username": "debian", "ipAddress": "192.0.2.7", "later": {"key": "canary-member"},
            }}),
        ),
        // The forms in which AWS repeats a request.
        1 => refused(
            "InvalidSignatureException",
            &format!(
                "The request signature we calculated does not match.\n\nThe Canonical String for this request should have been\n'POST\nx-amz-security-token:{TOKEN}\n'"
            ),
        ),
        2 => refused(
            "IncompleteSignatureException",
            &format!(
                "'Credential={KEY}' not valid, Authorization=AWS4-HMAC-SHA256 Credential={KEY}, Signature=canary-signature"
            ),
        ),
        _ => (502, String::new(), format!("<html>{SECRET} {TOKEN}").into_bytes()),
    });
    let api = traced(&server, &limits).await;
    let details = api.access_details("green-vm").await.expect("details");
    assert_eq!((details.private_key.expose(), details.user.as_str()), (PRIVATE, "debian"));
    assert_eq!(details.certificate.expose(), "ecdsa-cert canary-certificate");
    let mut told = format!("{details:?}");
    for _ in 0..2 {
        let failure: Failure = api.instance("green-vm").await.expect_err("refused").into();
        assert_eq!((failure.id, failure.kind), (Id::AwsUnknown, Kind::Denied));
        let _ = write!(told, "{failure:?}");
    }
    let api = api.until(std::time::Instant::now() + Duration::from_millis(300));
    let failure: Failure = api.instance("green-vm").await.expect_err("refused").into();
    let _ = write!(told, "{failure:?}");
    let shown = shown.borrow();
    for text in [told.as_str(), shown.as_str()] {
        assert!(!text.to_lowercase().contains("canary"), "{text}");
    }
    assert!(told.contains("The request signature we calculated does not match."), "{told}");
    assert!(shown.contains("/ GetInstanceAccessDetails Some(200)"), "{shown}");
    assert!(shown.contains("\"username\":\"debian\""), "{shown}");
}

#[tokio::test]
async fn a_wrong_clock_is_told_with_both_times() {
    let server = Server::start(|_, _| {
        let body = json!({"__type": "InvalidSignatureException", "message": "Signature expired: x is now earlier than y"});
        (400, "date: Sat, 01 Jan 2000 12:00:00 GMT\r\n".to_owned(), body.to_string().into_bytes())
    });
    let failure: Failure = api(&server).await.instance("green-vm").await.expect_err("refused").into();
    assert_eq!((failure.id, failure.kind), (Id::AwsClock, Kind::Denied));
    let detail =
        |label: &str| failure.details.iter().find(|(key, _)| key == label).map(|(_, text)| text.as_str());
    assert_eq!(detail("time at AWS"), Some("2000-01-01 12:00:00 UTC"));
    assert!(detail("time here").is_some_and(|time| time.starts_with("20") && !time.starts_with("2000")));
    // The same words with the right time are about the key.
    let server = Server::start(|_, _| {
        let now = jiff::fmt::rfc2822::to_string(&jiff::Zoned::now()).expect("a date");
        let body = json!({"__type": "InvalidSignatureException", "message": "does not match"});
        (400, format!("date: {now}\r\n"), body.to_string().into_bytes())
    });
    let failure: Failure = api(&server).await.instance("green-vm").await.expect_err("refused").into();
    assert_eq!(failure.id, Id::AwsUnknown);
}

#[tokio::test]
async fn the_identity_is_what_sts_says() {
    let xml = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/ci/me</Arn><UserId>A</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
    let server = Server::start(move |_, _| (200, "content-type: text/xml\r\n".to_owned(), xml.into()));
    let identity = api(&server).await.identity().await.expect("an identity");
    assert_eq!(
        (identity.account.as_str(), identity.arn.as_str()),
        ("123456789012", "arn:aws:sts::123456789012:assumed-role/ci/me")
    );
    let request = &server.requests()[0];
    assert_eq!(request.body, "Action=GetCallerIdentity&Version=2011-06-15");
    assert!(request.header("authorization").contains("/eu-central-1/sts/aws4_request"));
    let server = Server::start(|_, _| {
        (403, String::new(), b"<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code><Message>invalid</Message></Error></ErrorResponse>".to_vec())
    });
    let refusal = api(&server).await.identity().await.expect_err("refused");
    assert_eq!((refusal.class, refusal.action()), (Class::UnknownCredentials, "sts:GetCallerIdentity"));
    for odd in [
        "<Account>12345678901</Account><Arn>arn:aws:iam::1:root</Arn>",
        "<Account>123456789012</Account>",
        "{}",
    ] {
        let server = Server::start(move |_, _| (200, String::new(), odd.into()));
        assert_eq!(api(&server).await.identity().await.expect_err("odd").class, Class::Malformed, "{odd}");
    }
}

#[tokio::test]
async fn an_answer_about_another_instance_is_refused() {
    let server =
        Server::start(|_, _| answer(200, &json!({"instance": super::model::tests::instance("blue-vm")})));
    assert_eq!(api(&server).await.instance("green-vm").await.expect_err("another").class, Class::Malformed);
    assert!(api(&server).await.instance("blue-vm").await.expect("read").is_some());
}

#[tokio::test]
async fn ports_are_sent_and_read_as_sets() {
    let server = Server::start(|request, _| match request.operation() {
        "GetInstancePortStates" => answer(
            200,
            &json!({"portStates": [
                {"fromPort": 22, "toPort": 22, "protocol": "tcp", "state": "open", "cidrs": ["198.51.100.0/24", "192.0.2.0/24"]},
                {"fromPort": 80, "toPort": 80, "protocol": "tcp", "state": "closed"},
            ]}),
        ),
        _ => answer(200, &json!({"operation": {"id": "op-2", "status": "Succeeded", "isTerminal": true}})),
    });
    let writer = api(&server).await.writer();
    let mut port = Port::tcp(22);
    port.cidrs = ["192.0.2.0/24", "198.51.100.0/24"].map(str::to_owned).into();
    let operations = writer.put_ports("green-vm", std::slice::from_ref(&port)).await.expect("set");
    assert!(operations[0].is_terminal);
    assert_eq!(writer.port_states("green-vm").await.expect("read"), [port.clone()]);
    writer.close_port("green-vm", &port).await.expect("closed");
    writer.require_metadata_tokens("green-vm").await.expect("protected");
    let bodies: Vec<Value> =
        server.requests().iter().map(|request| serde_json::from_str(&request.body).expect("JSON")).collect();
    let sent = json!({"fromPort": 22, "toPort": 22, "protocol": "tcp", "cidrs": ["192.0.2.0/24", "198.51.100.0/24"], "ipv6Cidrs": [], "cidrListAliases": []});
    assert_eq!(bodies[0], json!({"instanceName": "green-vm", "portInfos": [sent]}));
    assert_eq!(bodies[2], json!({"instanceName": "green-vm", "portInfo": sent}));
    assert_eq!(
        bodies[3],
        json!({"instanceName": "green-vm", "httpTokens": "required", "httpEndpoint": "enabled"})
    );
}
