//! Each source, in a home of its own. The sources for which AWS's library reads the environment of the process run in
//! one of their own.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use super::{Credentials, choose, is_region};
use crate::base::error::{Failure, Id, Kind};
use crate::machine::lightsail::profile::Profiles;
use crate::machine::lightsail::server_tests::{Answer, Request, Server};
use crate::machine::lightsail::tests::{limits, source};

fn home(config: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(home.path().join(".aws")).expect("a directory");
    std::fs::write(home.path().join(".aws/config"), config).expect("written");
    home
}

/// The access key id, or the failure.
async fn resolved(home: &Path, env: &[(&str, &str)], profile: Option<&str>) -> Result<String, Failure> {
    let home = home.display().to_string();
    let mut all = vec![("HOME", home.as_str()), ("PATH", "/usr/bin:/bin")];
    all.extend(env);
    let mut source = source(&all);
    source.profile = profile.map(str::to_owned);
    let found = Credentials::find(&source, Some("eu-central-1"), &limits()).await?;
    found.check(&limits()).await?;
    Ok(found.keys().await?.id.expose().to_owned())
}

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "canary")];
const CONFIG: &str = "
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = canary
[profile ci]
aws_access_key_id = AKIACI
aws_secret_access_key = canary
[profile fails]
credential_process = echo canary; exit 1
[profile ended]
credential_process = echo '{\"Version\": 1, \"AccessKeyId\": \"AKIA\", \"SecretAccessKey\": \"canary\", \"Expiration\": \"2020-01-01T00:00:00Z\"}'
[profile mfa]
role_arn = arn:aws:iam::1:role/a
source_profile = ci
mfa_serial = arn:aws:iam::1:mfa/me
[profile ec2]
role_arn = arn:aws:iam::1:role/a
credential_source = Ec2InstanceMetadata
[profile half]
aws_access_key_id = AKIAHALF
";

#[tokio::test]
async fn the_named_source_or_the_first_one_is_used() {
    let home = home(CONFIG);
    let [id, secret] = KEYS;
    for (env, profile, expected) in [
        (vec![id, secret], None, "AKIAENV"),
        (vec![], None, "AKIADEFAULT"),
        (vec![id, secret, ("AWS_PROFILE", "ci")], None, "AKIACI"),
        (vec![id, secret, ("AWS_PROFILE", "default")], Some("ci"), "AKIACI"),
        (vec![("AWS_PROFILE", "")], None, "AKIADEFAULT"),
    ] {
        assert_eq!(resolved(home.path(), &env, profile).await.expect("keys"), expected, "{env:?}");
    }
}

#[tokio::test]
async fn a_source_that_fails_never_leads_to_another() {
    let home = home(CONFIG);
    let [id, secret] = KEYS;
    for (env, code, exit, words) in [
        (vec![id, secret, ("AWS_PROFILE", "nobody")], "OR0212", 2, "no AWS profile \"nobody\" (AWS_PROFILE)"),
        (vec![id, secret, ("AWS_PROFILE", "half")], "OR0212", 2, "lacks aws_secret_access_key"),
        (
            vec![id, secret, ("AWS_PROFILE", "fails")],
            "OR0426",
            4,
            "the credential_process failed (exit status: 1)",
        ),
        (vec![id, secret, ("AWS_PROFILE", "ended")], "OR0429", 4, "already expired"),
        (
            vec![id, secret, ("AWS_PROFILE", "mfa"), ("PATH", "/nonexistent")],
            "OR0426",
            4,
            "mfa_serial needs version 2 of the AWS CLI: ",
        ),
        (vec![id, secret, ("AWS_PROFILE", "ec2")], "OR0212", 2, "--aws-metadata"),
        // One half of a pair is a mistake, and the default profile would be another identity.
        (vec![id], "OR0212", 2, "AWS_SECRET_ACCESS_KEY is not"),
        (vec![secret], "OR0212", 2, "AWS_ACCESS_KEY_ID is not"),
        (vec![("AWS_WEB_IDENTITY_TOKEN_FILE", "/x")], "OR0212", 2, "AWS_ROLE_ARN is not"),
    ] {
        let failure = resolved(home.path(), &env, None).await.expect_err("no keys");
        let told = format!("{failure:?}");
        assert_eq!((failure.id.code(), failure.kind.exit_code()), (code, exit), "{env:?}: {told}");
        assert!(told.replace('\\', "").contains(words), "{env:?}: {told}");
        assert!(told.contains(".aws/config") || !env.iter().any(|one| one.0 == "AWS_PROFILE"), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

/// What the AWS CLI 2.9.19 writes without a terminal and without credentials that it has kept.
#[tokio::test]
async fn a_role_that_needs_a_code_names_the_command_that_asks_for_it() {
    let home = home(CONFIG);
    let program = home.path().join("aws");
    let script = "#!/bin/sh\n[ \"$1\" != --version ] || { echo aws-cli/2.9.19; exit; }\n\
                  printf 'Warning: Password input may be echoed.\\nEnter MFA code for arn:aws:iam::1:mfa/me: \\n\\n' >&2; exit 255\n";
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let path = format!("{}:/bin", home.path().display());
    let env = [("AWS_PROFILE", "mfa"), ("PATH", path.as_str())];
    let failure = resolved(home.path(), &env, None).await.expect_err("no keys");
    assert_eq!((failure.id, failure.kind), (Id::AwsExpired, Kind::Denied));
    let told = format!("{failure:?}");
    assert!(
        told.contains("aws sts get-caller-identity --profile mfa") && !told.contains("install"),
        "{told}"
    );
    assert!(told.contains("aws says: Enter MFA code for arn:aws:iam::1:mfa/me:"), "{told}");
    // A CLI that is there is not missing, whatever it does.
    std::fs::write(&program, script.replace("printf", "exit 3 #")).expect("written");
    let told = format!("{:?}", resolved(home.path(), &env, None).await.expect_err("no keys"));
    assert!(told.contains("aws failed (exit status: 3)") && !told.contains("install"), "{told}");
}

#[tokio::test]
async fn without_any_source_the_failure_lists_where_it_looked() {
    let empty = tempfile::tempdir().expect("a directory");
    let failure = resolved(empty.path(), &[], None).await.expect_err("no keys");
    assert_eq!((failure.id, failure.kind), (Id::NoAwsCredentials, Kind::Usage));
    assert!(failure.details[0].1.contains(".aws/credentials"), "{failure:?}");
    // Metadata is asked on request only.
    let mut source = source(&[("HOME", "/nowhere")]);
    let profiles = Profiles::read(&source.env, &source.intake).await.expect("none");
    assert!(choose(&source, &profiles).is_err());
    source.metadata = true;
    let chosen = choose(&source, &profiles).map(|chosen| chosen.shown).map_err(|failure| failure.message);
    assert_eq!(chosen.as_deref(), Ok("the metadata service of this EC2 instance"));
}

#[tokio::test]
async fn the_region_is_given_or_of_the_environment_or_of_the_profile() {
    let home = home(
        "[default]\nregion = eu-west-3\n[profile ci]\nregion = eu-north-1\naws_access_key_id = a\naws_secret_access_key = b\n",
    );
    let home = home.path().display().to_string();
    let of = async |env: &[(&str, &str)], region: Option<&str>| {
        let mut all = vec![("HOME", home.as_str())];
        all.extend(env);
        let found = Credentials::find(&source(&all), region, &limits()).await;
        found.map(|found| found.region().to_owned()).map_err(|failure| failure.id)
    };
    let [id, secret] = KEYS;
    let (one, other) = (("AWS_REGION", "us-east-1"), ("AWS_DEFAULT_REGION", "us-east-2"));
    assert_eq!(of(&[id, secret, one, other], Some("eu-central-1")).await.as_deref(), Ok("eu-central-1"));
    assert_eq!(of(&[id, secret, one, other], None).await.as_deref(), Ok("us-east-1"));
    assert_eq!(of(&[id, secret, other], None).await.as_deref(), Ok("us-east-2"));
    assert_eq!(of(&[id, secret], None).await.as_deref(), Ok("eu-west-3"));
    assert_eq!(of(&[("AWS_PROFILE", "ci")], None).await.as_deref(), Ok("eu-north-1"));
    assert_eq!(of(&[id, secret], Some("evil.example/")).await, Err(Id::AwsSettings));
    let all = [("HOME", "/nowhere"), id, secret];
    let failure = Credentials::find(&source(&all), None, &limits()).await.err().expect("no region");
    assert_eq!(failure.id, Id::AwsSettings);
    assert!(is_region("ap-southeast-1") && !is_region("eu") && !is_region("eu-west-1.evil.example"));
}

/// STS's answer to `AssumeRole` and `AssumeRoleWithWebIdentity`.
fn assumed(action: &str, id: &str) -> Answer {
    let body = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/a/outrigger</Arn><AssumedRoleId>x:outrigger</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>canary</SecretAccessKey><SessionToken>canary</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></{action}Result></{action}Response>"
    );
    (200, "content-type: text/xml\r\n".to_owned(), body.into_bytes())
}

fn denied() -> Answer {
    let body = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User is not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>";
    (403, "content-type: text/xml\r\n".to_owned(), body.into())
}

#[tokio::test]
async fn roles_are_assumed_one_after_the_other() {
    let config = "[profile base]\ncredential_process = echo '{\"Version\": 1, \"AccessKeyId\": \"AKIABASE\", \"SecretAccessKey\": \"s\"}'\n[profile first]\nrole_arn = arn:aws:iam::1:role/first\nsource_profile = base\nexternal_id = ext\n[profile second]\nrole_arn = arn:aws:iam::1:role/second\nsource_profile = first\n";
    let home = home(config);
    let server = Server::start(|_, n| assumed("AssumeRole", ["ASIAFIRST", "ASIASECOND"][n]));
    let env = [("AWS_ENDPOINT_URL_STS", server.url.as_str())];
    assert_eq!(resolved(home.path(), &env, Some("second")).await.expect("keys"), "ASIASECOND");
    let requests = server.requests();
    let signed_by =
        |request: &Request, id: &str| request.header("authorization").contains(&format!("Credential={id}/"));
    assert!(signed_by(&requests[0], "AKIABASE") && requests[0].body.contains("role%2Ffirst"), "{requests:?}");
    assert!(requests[0].body.contains("ExternalId=ext"), "{requests:?}");
    assert!(
        signed_by(&requests[1], "ASIAFIRST") && requests[1].body.contains("role%2Fsecond"),
        "{requests:?}"
    );
    let server = Server::start(|_, _| denied());
    let [id, secret] = KEYS;
    let env = [("AWS_ENDPOINT_URL_STS", server.url.as_str()), id, secret];
    let failure = resolved(home.path(), &env, Some("first")).await.expect_err("denied");
    assert_eq!((failure.id, failure.kind), (Id::AwsCredentials, Kind::Denied));
    let told = format!("{failure:?}");
    assert!(told.contains("role/first") && told.contains("not authorized to perform"), "{told}");
}

#[tokio::test]
async fn credentials_that_aws_calls_expired_are_resolved_once_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let count = dir.path().join("count");
    let process = format!(
        "echo >>{0}; printf '{{\"Version\": 1, \"AccessKeyId\": \"AKIA%s\", \"SecretAccessKey\": \"s\"}}' $(wc -l <{0})",
        count.display()
    );
    let home = home(&format!("[profile p]\ncredential_process = {process}\n"));
    let server = Server::start(|request, _| {
        if request.header("authorization").contains("Credential=AKIA1/") {
            crate::machine::lightsail::server_tests::json(
                400,
                &json!({"__type": "ExpiredTokenException", "message": "ended"}),
            )
        } else {
            crate::machine::lightsail::server_tests::json(200, &json!({"portStates": []}))
        }
    });
    let home = home.path().display().to_string();
    let env = [
        ("HOME", home.as_str()),
        ("PATH", "/usr/bin:/bin"),
        ("AWS_PROFILE", "p"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", &server.url),
    ];
    let api =
        crate::machine::lightsail::Api::connect(&source(&env), None, &limits()).await.expect("connected");
    assert!(api.port_states("green-vm").await.expect("read").is_empty());
    assert_eq!(server.requests().len(), 2);
    // Keys that cannot change are not tried twice.
    let server = Server::start(|_, _| {
        crate::machine::lightsail::server_tests::json(
            400,
            &json!({"__type": "ExpiredTokenException", "message": "ended"}),
        )
    });
    let [id, secret] = KEYS;
    let env = [id, secret, ("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL", &server.url)];
    let api =
        crate::machine::lightsail::Api::connect(&source(&env), None, &limits()).await.expect("connected");
    let failure: Failure = api.port_states("green-vm").await.expect_err("expired").into();
    assert_eq!((failure.id, server.requests().len()), (Id::AwsExpired, 1));
}

/// Resolves in a process with this environment alone: the access key id, or the failure as text.
fn in_a_process(home: &Path, env: &[(&str, &str)]) -> String {
    let out = home.join("resolved");
    let ended = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "machine::lightsail::credentials::tests::resolve_here", "--ignored"])
        .env_clear()
        .envs(env.iter().copied())
        .envs([("HOME", home), ("RESOLVED", out.as_path())])
        .output()
        .expect("started");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    std::fs::read_to_string(out).expect("a result")
}

#[tokio::test]
#[ignore = "the tests of SSO and web identity start it in a process of its own"]
async fn resolve_here() {
    crate::install_tls_provider();
    let env: BTreeMap<String, String> = std::env::vars().collect();
    let pairs: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut source = source(&pairs);
    source.metadata = env.contains_key("METADATA");
    let found = Credentials::find(&source, None, &limits()).await.expect("a source");
    let told = match found.keys().await {
        Ok(keys) => keys.id.expose().to_owned(),
        Err(failure) => format!("{failure:?}"),
    };
    std::fs::write(&env["RESOLVED"], told).expect("written");
}

const SSO: &str = "
[profile old]
sso_start_url = https://old.example.com/start
sso_region = eu-west-1
sso_account_id = 123456789012
sso_role_name = ops
[profile new]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = ops
[sso-session corp]
sso_region = eu-west-1
sso_start_url = https://corp.example.com/start
";

/// The cached token of the session `corp`, or of the start URL of `old`: the file is named by the SHA-1 of either.
fn cached(home: &Path, profile: &str, token: &str, until: &str) {
    let file = match profile {
        "new" => "ee0bfd2552fbd840c02cc48b6e823320543c450f",
        _ => "9b726645671518e41c034c40bffd71030972d251",
    };
    let dir = home.join(".aws/sso/cache");
    std::fs::create_dir_all(&dir).expect("a directory");
    let token = json!({"accessToken": token, "expiresAt": until, "region": "eu-west-1", "startUrl": "x"});
    std::fs::write(dir.join(format!("{file}.json")), token.to_string()).expect("written");
}

#[test]
fn a_login_by_sso_gives_keys_until_it_ends() {
    for profile in ["old", "new"] {
        let home = home(SSO);
        let server = Server::start(|request, _| {
            assert!(request.line.starts_with("GET /federation/credentials?"), "{}", request.line);
            // As the portal refuses a session that has ended.
            if request.header("x-amz-sso_bearer_token") != "canary-token" {
                let body = br#"{"message": "Session token not found or invalid"}"#.to_vec();
                return (401, "x-amzn-errortype: UnauthorizedException\r\n".to_owned(), body);
            }
            let keys = json!({"accessKeyId": "ASIASSO", "secretAccessKey": "canary", "sessionToken": "canary", "expiration": 4_000_000_000_000_i64});
            crate::machine::lightsail::server_tests::json(200, &json!({"roleCredentials": keys}))
        });
        let env = [
            ("AWS_PROFILE", profile),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ENDPOINT_URL", server.url.as_str()),
            ("AWS_ACCESS_KEY_ID", "AKIAENV"),
            ("AWS_SECRET_ACCESS_KEY", "canary"),
        ];
        let absent = in_a_process(home.path(), &env);
        cached(home.path(), profile, "canary-ended", "2020-01-01T00:00:00Z");
        let expired = in_a_process(home.path(), &env);
        for told in [absent, expired] {
            assert!(told.contains("id: AwsExpired, kind: Denied"), "{profile}: {told}");
            assert!(told.contains(&format!("aws sso login --profile {profile}")), "{profile}: {told}");
            assert!(!told.contains("canary") && told.contains(".aws/config"), "{profile}: {told}");
        }
        // AWS's library knows the end of a session, and leaves that of a start URL to the portal.
        assert_eq!(server.requests().len(), usize::from(profile == "old"), "{profile}");
        cached(home.path(), profile, "canary-token", "2099-01-01T00:00:00Z");
        assert_eq!(in_a_process(home.path(), &env), "ASIASSO", "{profile}");
    }
}

#[test]
fn a_web_identity_is_exchanged_for_keys() {
    let home = home("[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = canary\n");
    let token = home.path().join("token");
    let server = Server::start(|request, _| {
        assert!(request.body.contains("WebIdentityToken=canary-jwt"), "{}", request.body);
        assert_eq!(request.header("authorization"), "");
        assumed("AssumeRoleWithWebIdentity", "ASIAWEB")
    });
    let file = token.display().to_string();
    let env = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/a"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", server.url.as_str()),
    ];
    let told = in_a_process(home.path(), &env);
    assert!(told.contains("id: AwsCredentials, kind: Denied") && told.contains(&file), "{told}");
    std::fs::write(&token, "canary-jwt").expect("written");
    assert_eq!(in_a_process(home.path(), &env), "ASIAWEB");
}

#[test]
fn a_container_gives_keys_on_request_alone() {
    let home = tempfile::tempdir().expect("a directory");
    let server = Server::start(|request, _| {
        assert_eq!(
            (request.line.as_str(), request.header("authorization")),
            ("GET /keys HTTP/1.1\r\n", "canary")
        );
        let keys = json!({"AccessKeyId": "ASIATASK", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"});
        crate::machine::lightsail::server_tests::json(200, &keys)
    });
    let url = format!("{}/keys", server.url);
    let env = [
        ("METADATA", "1"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary"),
        ("AWS_REGION", "eu-central-1"),
    ];
    assert_eq!(in_a_process(home.path(), &env), "ASIATASK");
}

/// The metadata service of an EC2 instance, version 2: a session token first, then the role's keys.
fn metadata_service(role: Option<&'static str>) -> Server {
    Server::start(move |request, _| {
        let path = request.line.split(' ').nth(1).unwrap_or_default().to_owned();
        if request.line.starts_with("PUT /latest/api/token ") {
            assert_ne!(request.header("x-aws-ec2-metadata-token-ttl-seconds"), "");
            return (
                200,
                "x-aws-ec2-metadata-token-ttl-seconds: 600\r\n".to_owned(),
                b"canary-imds".to_vec(),
            );
        }
        assert_eq!(request.header("x-aws-ec2-metadata-token"), "canary-imds", "{}", request.line);
        let list = "/latest/meta-data/iam/security-credentials/";
        match (path.strip_prefix(list), role) {
            (Some(""), Some(role)) => (200, String::new(), role.as_bytes().to_vec()),
            (Some(asked), Some(role)) if asked == role => {
                let keys = json!({"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIAEC2", "SecretAccessKey": "canary-s",
                    "Token": "canary-t", "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2099-01-01T00:00:00Z"});
                crate::machine::lightsail::server_tests::json(200, &keys)
            }
            _ => (404, String::new(), Vec::new()),
        }
    })
}

#[test]
fn an_instance_gives_keys_on_request_alone() {
    let home = tempfile::tempdir().expect("a directory");
    let region = ("AWS_REGION", "eu-central-1");
    let with = |server: &Server, more: &[(&str, &str)]| {
        let mut env = vec![region, ("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url.as_str())];
        env.extend(more);
        in_a_process(home.path(), &env)
    };
    let server = metadata_service(Some("runner-admin"));
    let ways: [&[(&str, &str)]; 2] = [&[("METADATA", "1")], &[("METADATA", "1"), ("AWS_PROFILE", "ec2")]];
    std::fs::create_dir_all(home.path().join(".aws")).expect("a directory");
    let config = "[profile ec2]\nrole_arn = arn:aws:iam::1:role/a\ncredential_source = Ec2InstanceMetadata\n";
    std::fs::write(home.path().join(".aws/config"), config).expect("written");
    assert_eq!(with(&server, ways[0]), "ASIAEC2");
    assert_eq!(server.requests().len(), 3, "a session token, the role's name, its keys");

    // The role of the profile is assumed with the instance's keys.
    let sts = Server::start(|request, _| {
        assert!(request.header("authorization").contains("Credential=ASIAEC2/"), "{}", request.line);
        assumed("AssumeRole", "ASIAROLE")
    });
    let url = ("AWS_ENDPOINT_URL_STS", sts.url.as_str());
    assert_eq!(with(&server, &[ways[1], &[url]].concat()), "ASIAROLE");

    // An instance without a role.
    let empty = metadata_service(None);
    let told = with(&empty, ways[0]);
    assert!(told.contains("id: AwsCredentials, kind: Denied"), "{told}");
    assert!(told.contains("the metadata service of this EC2 instance") && !told.contains("canary"), "{told}");
}

#[tokio::test]
async fn without_metadata_a_container_is_not_asked() {
    let empty = tempfile::tempdir().expect("a directory");
    let server = Server::start(|_, _| (500, String::new(), Vec::new()));
    let env = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url.as_str())];
    let failure = resolved(empty.path(), &env, None).await.expect_err("no keys");
    assert_eq!((failure.id, server.requests().len()), (Id::NoAwsCredentials, 0));
}
