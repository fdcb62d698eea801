//! Rows on users: tokens, certificates, impersonation, plugins.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cases::{Case, Expect, TOKEN, case};
use crate::lab::CLIENT;

pub fn all() -> Vec<Case> {
    [tokens(), certificates(), plugins(), providers()].into_iter().flatten().collect()
}

fn by(name: &'static str, user: Value) -> Case {
    case(name).user(user)
}

fn tokens() -> Vec<Case> {
    vec![
        by("a token file", json!({"tokenFile": "@DIR@/token"}))
            .file("token", "from-a-file\n")
            .at("as Bearer from-a-file"),
        by("the token's file before the token", json!({"token": "inline", "tokenFile": "@DIR@/token"}))
            .file("token", "from-a-file")
            .at("as Bearer from-a-file"),
        by("a missing file beside a token", json!({"token": "inline", "tokenFile": "@DIR@/none"}))
            .at("as Bearer inline"),
        by("a missing token file", json!({"tokenFile": "@DIR@/none"}))
            .fails(&["OR0301", "none does not exist"]),
        by("a token file of two lines", json!({"tokenFile": "@DIR@/token"}))
            .file("token", "canary-one\ncanary-two\n")
            .fails(&["OR0301", "header"]),
        by("a token with a line break", json!({"token": "canary-token\n"})).fails(&["OR0301", "header"]),
        by("a token with a blank", json!({"token": "canary token"}))
            .at("as Bearer canary token")
            .but_refused(
                "no server has such a token: it was copied with something beside it",
                &["OR0301", "header"],
            ),
        by("report: config view without --raw, token", json!({"token": "REDACTED"}))
            .at("as Bearer REDACTED")
            .but_refused(
                "it is what kubectl prints in place of a token",
                &["OR0301", "kubectl config view --raw"],
            ),
        by("a password", json!({"username": "me", "password": "secret"})).at("as Basic bWU6c2VjcmV0"),
        by("a token and a password", json!({"token": "canary", "username": "me", "password": "canary"}))
            .fails(&["OR0301", "a token and a password"]),
        by("nobody", json!({})).fails(&["OR0301", "no credentials"]),
        by("nobody, as somebody else", json!({"as": "root"})).fails(&["OR0301", "no credentials"]),
        by(
            "impersonation",
            json!({"token": "good-token", "as": "root", "as-uid": "4", "as-groups": ["a", "b"],
            "as-user-extra": {"scopes": ["one", "two"], "Reason": ["three"]}}),
        )
        .at("impersonate-user=root"),
        by("groups without a user", json!({"token": "good-token", "as-groups": ["a"]}))
            .fails(&["OR0301", "without as"]),
    ]
}

fn data(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubectl").join(name);
    STANDARD.encode(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn kept(name: &str) -> Value {
    json!({"client-certificate-data": data(&format!("{name}.crt")), "client-key-data": data(&format!("{name}.key"))})
}

fn certificates() -> Vec<Case> {
    let (certificate, key) = &*CLIENT;
    let encoded = |text: &str| STANDARD.encode(text);
    let inline = json!({"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)});
    let mut with_token = inline.clone();
    with_token["token"] = json!("good-token");
    let mut mismatched = kept("sec1");
    mismatched["client-key-data"] = json!(encoded(key));
    vec![
        by("a client certificate", inline.clone()).at("somebody"),
        by("a client certificate and a token", with_token).at(TOKEN),
        by(
            "a client certificate in files",
            json!({"client-certificate": "@DIR@/crt", "client-key": "@DIR@/key"}),
        )
        .file("crt", certificate)
        .file("key", key)
        .at("somebody"),
        by(
            "a client certificate in data and file",
            json!({"client-certificate-data": encoded(certificate),
            "client-certificate": "@DIR@/crt", "client-key": "@DIR@/key"}),
        )
        .file("crt", certificate)
        .file("key", key)
        .fails(&["OR0301", "both"]),
        by("a client certificate without a key", json!({"client-certificate-data": encoded(certificate)}))
            .fails(&["OR0301", "without a key"]),
        by(
            "a client certificate that is missing",
            json!({"client-certificate": "@DIR@/none", "client-key": "@DIR@/none"}),
        )
        .fails(&["OR0301", "none does not exist"]),
        by(
            "a key without a client certificate",
            json!({"client-key-data": encoded(key), "token": "good-token"}),
        )
        .at(TOKEN),
        by("somebody else's key", mismatched).fails(&["OR0301", "not that of its client certificate"]),
        by("report: a P-521 key", kept("p521"))
            .at("p521")
            .but_refused("ring has no P-521", &["OR0301", "P-521", "or with a token"]),
        by("an EC key with parameters", kept("sec1")).at("sec1"),
        by("an RSA key of the older form", kept("pkcs1")).at("pkcs1"),
        by(
            "an encrypted key",
            json!({"client-certificate-data": data("pkcs1.crt"), "client-key-data": data("encrypted.key")}),
        )
        .fails(&["OR0301", "encrypted"]),
        by("no PEM", json!({"client-certificate-data": encoded("x"), "client-key-data": encoded("y")}))
            .fails(&["OR0301", "no PEM"]),
    ]
}

const V1: &str = "client.authentication.k8s.io/v1";
const BETA: &str = "client.authentication.k8s.io/v1beta1";

/// A plugin of this version that prints a status.
fn plugin(name: &'static str, version: &str, status: &str) -> Case {
    let answer = format!("{{\"apiVersion\":\"{version}\",\"kind\":\"ExecCredential\",\"status\":{status}}}");
    script(name, version, &format!("cat <<'END'\n{answer}\nEND"))
}

fn script(name: &'static str, version: &str, lines: &str) -> Case {
    by(name, json!({"exec": {"apiVersion": version, "command": "@DIR@/plugin", "interactiveMode": "Never"}}))
        .file("plugin", format!("#!/bin/sh\n{lines}\n"))
}

fn plugins() -> Vec<Case> {
    let (certificate, key) = &*CLIENT;
    let both = |certificate: &str, key: &str| {
        json!({"clientCertificateData": certificate, "clientKeyData": key}).to_string()
    };
    let read = |name: &str| {
        let bytes = STANDARD.decode(data(name)).expect("it was encoded here");
        String::from_utf8(bytes).expect("PEM")
    };
    let changed = |case: Case, change: &dyn Fn(&mut Value)| {
        case.changed(|config| change(&mut config["users"][0]["user"]))
    };
    let good = r#"{"token":"from-a-plugin"}"#;
    let came = "as Bearer from-a-plugin";
    let echo = r#"host=$(printf %s "$KUBERNETES_EXEC_INFO" | grep -o '"server":"[^"]*"' | tr -d '":/')
printf '{"apiVersion":"%s","kind":"ExecCredential","status":{"token":"%s-%s-%s"}}' "$VERSION" "$host" "$1" "$KEPT""#;
    vec![
        plugin("a plugin", V1, good).at(came),
        plugin("a plugin, v1beta1", BETA, good).at(came),
        changed(plugin("a plugin of v1beta1 without interactiveMode", BETA, good), &|user| {
            drop(user["exec"].as_object_mut().expect("a mapping").remove("interactiveMode"));
        })
        .at(came),
        changed(plugin("a plugin of v1 without interactiveMode", V1, good), &|user| {
            drop(user["exec"].as_object_mut().expect("a mapping").remove("interactiveMode"));
        })
        .fails(&["OR0301", "interactiveMode"]),
        changed(plugin("a plugin that always needs a terminal", V1, good), &|user| {
            user["exec"]["interactiveMode"] = json!("Always");
        })
        .but("outrigger never gives a plugin a terminal and tries: most have a login by then", Expect::Direct("as Bearer from-a-plugin")),
        plugin("a plugin of v1alpha1", "client.authentication.k8s.io/v1alpha1", good).fails(&["OR0301", "apiVersion"]),
        plugin("report: a plugin's token with a line break", V1, r#"{"token":"canary-abc\n"}"#).fails(&["OR0404", "header"]),
        plugin("a plugin's token that ends", V1, r#"{"token":"from-a-plugin","expirationTimestamp":"2099-01-01T00:00:00Z"}"#).at(came),
        plugin("a plugin's token with a line break that ends", V1, r#"{"token":"canary\n","expirationTimestamp":"2099-01-01T00:00:00Z"}"#)
            .fails(&["OR0404", "header"]),
        plugin("a plugin's certificate", V1, &both(certificate, key)).at("somebody"),
        plugin("a plugin's P-521 key", V1, &both(&read("p521.crt"), &read("p521.key")))
            .at("p521")
            .but_refused("ring has no P-521", &["OR0404", "P-521", "or with a token"]),
        plugin("a plugin's certificate without a key", V1, &json!({"clientCertificateData": certificate}).to_string())
            .fails(&["OR0404", "not both"]),
        plugin("a plugin that gives nothing", V1, "{}").fails(&["OR0404", "neither"]),
        script("a plugin that answers in another version", V1,
            &format!("printf '{{\"apiVersion\":\"{BETA}\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"canary\"}}}}'"))
        .fails(&["OR0404", "v1beta1"]),
        script("a plugin that fails", V1, "echo canary; echo canary >&2; exit 3").fails(&["OR0404", "exit status: 3"]),
        script("a plugin that prints something else", V1, "echo canary").fails(&["OR0404", "did not print an ExecCredential"]),
        changed(plugin("a plugin that is not there", V1, good), &|user| {
            user["exec"]["command"] = json!("@DIR@/none");
            user["exec"]["installHint"] = json!("get it from plugins.example.com");
        })
        .fails(&["OR0404", "get it from plugins.example.com"]),
        changed(plugin("a plugin relative to its kubeconfig", V1, good), &|user| {
            user["exec"]["command"] = json!("./plugin");
        })
        .at(came),
        changed(plugin("a plugin on the PATH", V1, good), &|user| user["exec"]["command"] = json!("plugin"))
            .env("PATH", "@DIR@:/usr/bin:/bin")
            .at(came),
        changed(script("a plugin's arguments, environment and cluster", V1, echo), &|user| {
            user["exec"]["args"] = json!(["argument"]);
            user["exec"]["env"] = json!([{"name": "VERSION", "value": V1}]);
            user["exec"]["provideClusterInfo"] = json!(true);
        })
        .env("KEPT", "kept")
        .at("as Bearer serverhttps192.0.2.76443-argument-kept"),
        changed(plugin("a plugin beside a token", V1, good), &|user| user["token"] = json!("good-token")).at(TOKEN),
        changed(plugin("a plugin beside a provider", V1, good), &|user| user["auth-provider"] = json!({"name": "oidc"}))
            .fails(&["OR0301", "an exec plugin and an auth-provider"]),
    ]
}

/// A JWT that ends in 2099; nobody checks its signature.
fn id_token() -> String {
    let part = |value: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2lnbmF0dXJl", part(json!({"alg": "RS256"})), part(json!({"exp": 4_070_908_800_u64})))
}

fn providers() -> Vec<Case> {
    let oidc = |name, token: &str| {
        by(
            name,
            json!({"auth-provider": {"name": "oidc", "config": {"id-token": token,
            "idp-issuer-url": "https://issuer.example.com", "client-id": "me"}}}),
        )
    };
    vec![
        oidc("oidc", &id_token()).at("as Bearer ey"),
        oidc("report: oidc's token with a line break", "canary-abc\n").fails(&["OR0301", "header"]),
        oidc("oidc without a token", "").fails(&["OR0301", "no id-token"]),
        by(
            "a provider that kubectl no longer has",
            json!({"auth-provider": {"name": "gcp", "config": {"id-token": "canary"}}}),
        )
        .fails(&["OR0301", "no longer has"]),
    ]
}
