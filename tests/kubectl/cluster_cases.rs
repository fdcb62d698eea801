//! Rows on files and clusters: where kubeconfigs are found, how they are merged, how servers are spelled.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cases::{Case, PUBLIC, TOKEN, ca, case};
use crate::lab::{CA, OTHER_CA};

pub fn all() -> Vec<Case> {
    [files(), merging(), servers(), trust()].into_iter().flatten().collect()
}

/// A kubeconfig that has nothing but these parts.
fn part(parts: &Value) -> String {
    let mut whole = json!({"apiVersion": "v1", "kind": "Config"});
    for (key, value) in parts.as_object().expect("a mapping") {
        whole[key] = value.clone();
    }
    whole.to_string()
}

fn cluster(name: &str, server: &str) -> Value {
    json!({"name": name, "cluster": {"server": server, "certificate-authority-data": ca()}})
}

fn user(name: &str, token: &str) -> Value {
    json!({"name": name, "user": {"token": token}})
}

fn context(name: &str, cluster: &str, user: &str) -> Value {
    json!({"name": name, "context": {"cluster": cluster, "user": user}})
}

fn files() -> Vec<Case> {
    vec![
        case("the default file")
            .changed(|_| ())
            .file(".kube/config", case("").config().to_string())
            .env("KUBECONFIG", "")
            .at(TOKEN),
        case("a list with a file that is missing").env("KUBECONFIG", "@DIR@/none:@DIR@/config").at(TOKEN),
        case("a list with an empty file")
            .file("empty", "")
            .env("KUBECONFIG", "@DIR@/empty:@DIR@/config")
            .at(TOKEN),
        case("a list with empty names").env("KUBECONFIG", "::@DIR@/config:").at(TOKEN),
        case("a list of files that are missing").env("KUBECONFIG", "@DIR@/one:@DIR@/two").fails(&[
            "OR0301",
            "no kubeconfig found",
            "/one",
            "/two",
        ]),
        case("a list with a directory")
            .file("dir/x", "")
            .env("KUBECONFIG", "@DIR@/dir:@DIR@/config")
            .fails(&["dir"]),
        case("a relative path").env("KUBECONFIG", "config").at(TOKEN),
        case("JSON").file("config", case("").config().to_string()).at(TOKEN),
        case("a byte order mark")
            .file(
                "config",
                format!("\u{feff}{}", serde_yaml::to_string(&case("").config()).expect("plain data")),
            )
            .at(TOKEN),
        case("a second document")
            .file("config", format!("{}\n---\ncurrent-context: other\n", case("").config()))
            .at(TOKEN),
        case("unknown fields")
            .changed(|config| {
                config["unknown"] = json!({"a": 1});
                config["clusters"][0]["cluster"]["unknown"] = json!([1]);
                config["users"][0]["user"]["unknown"] = json!("x");
                config["preferences"] = json!({});
            })
            .at(TOKEN),
        case("no kind and no apiVersion")
            .changed(|config| {
                let config = config.as_object_mut().expect("a mapping");
                config.remove("kind");
                config.remove("apiVersion");
            })
            .at(TOKEN),
        case("nulls")
            .changed(|config| {
                config["preferences"] = Value::Null;
                config["extensions"] = Value::Null;
                config["users"][0]["user"]["exec"] = Value::Null;
                config["users"][0]["user"]["as"] = Value::Null;
                config["clusters"][0]["cluster"]["proxy-url"] = Value::Null;
            })
            .at(TOKEN),
        case("a key that stands twice")
            .file(
                "config",
                format!(
                    "{}\ncurrent-context: x\n",
                    serde_yaml::to_string(&{
                        let mut config = case("").config();
                        config["current-context"] = json!("other");
                        config
                    })
                    .expect("plain data")
                ),
            )
            .at(TOKEN),
        case("a name that stands twice")
            .changed(|config| {
                let users = config["users"].as_array_mut().expect("a list");
                users.push(user("u", "canary-second"));
            })
            .fails(&["OR0301", "duplicate name \"u\" in users"]),
        case("an entry that nobody uses is broken")
            .changed(|config| {
                let users = config["users"].as_array_mut().expect("a list");
                users.push(json!({"name": "v", "user": {"exec": {"interactiveMode": "Sometimes"}}}));
                let contexts = config["contexts"].as_array_mut().expect("a list");
                contexts.push(json!({"name": "other", "context": {"namespace": "of nobody"}}));
                contexts.push(json!({"name": "null", "context": null}));
            })
            .at(TOKEN),
        case("valid YAML")
            .file("config", "users: [{name: u, user: {token: canary")
            .fails(&["OR0301", "valid YAML"]),
        case("a token that is a number")
            .changed(|config| config["users"][0]["user"]["token"] = json!(4711))
            .fails(&["OR0301", "\"u\" must be a string"]),
    ]
}

fn merging() -> Vec<Case> {
    let both = |name, first: Value, second: Value| {
        case(name)
            .file("first", part(&first))
            .file("second", part(&second))
            .env("KUBECONFIG", "@DIR@/first:@DIR@/second")
    };
    let (server, other) = (format!("https://{PUBLIC}"), "https://10.1.2.3:6443");
    vec![
        both(
            "the first file with a name wins with the whole entry",
            json!({"users": [user("u", "first-token")], "clusters": [cluster("c", &server)]}),
            json!({"users": [{"name": "u", "user": {"token": "canary", "as": "root"}}], "contexts": [context("x", "c", "u")], "current-context": "x"}),
        )
        .at("as Bearer first-token"),
        both(
            "the first current context counts",
            json!({"current-context": "x", "clusters": [cluster("c", &server)], "contexts": [context("x", "c", "u")]}),
            json!({"current-context": "other", "users": [user("u", "good-token")], "clusters": [cluster("d", other)],
                   "contexts": [context("other", "d", "u"), context("x", "d", "u")]}),
        )
        .at(PUBLIC),
        both(
            "an empty current context is none",
            json!({"current-context": "", "clusters": [cluster("c", &server)]}),
            json!({"current-context": "x", "users": [user("u", "good-token")], "contexts": [context("x", "c", "u")]}),
        )
        .at(TOKEN),
        both(
            "another kind in the second file",
            json!({"current-context": "x", "clusters": [cluster("c", &server)], "preferences": {"colors": true}}),
            json!({"users": [user("u", "good-token")], "contexts": [context("x", "c", "u")], "preferences": {}}),
        )
        .at(TOKEN),
        case("paths are relative to their file")
            .file("one/ca.pem", CA.pem())
            .file("two/token", "from-a-file\n")
            .file("one/config", part(&json!({"current-context": "x",
                "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": "ca.pem"}}]})))
            .file("two/config", part(&json!({"contexts": [context("x", "c", "u")],
                "users": [{"name": "u", "user": {"tokenFile": "./token"}}]})))
            .env("KUBECONFIG", "@DIR@/one/config:two/config")
            .at("as Bearer from-a-file"),
        case("--context")
            .changed(|config| {
                config["clusters"].as_array_mut().expect("a list").push(cluster("d", other));
                config["contexts"].as_array_mut().expect("a list").push(context("other", "d", "u"));
            })
            .context("other")
            .at("10.1.2.3:6443"),
        case("--context of nobody").context("nobody").fails(&["OR0301", "no context \"nobody\""]),
        case("a current context of nobody")
            .changed(|config| config["current-context"] = json!("nobody"))
            .fails(&["OR0301", "no context \"nobody\""]),
        case("no current context")
            .changed(|config| config["current-context"] = json!(""))
            .fails(&["OR0201", "--context"]),
        case("a cluster of nobody")
            .changed(|config| config["contexts"][0]["context"]["cluster"] = json!("nobody"))
            .fails(&["OR0301", "the cluster \"nobody\""]),
        case("a user of nobody")
            .changed(|config| config["contexts"][0]["context"]["user"] = json!("nobody"))
            .fails(&["OR0301", "the user \"nobody\""]),
        case("no user")
            .changed(|config| drop(config["contexts"][0]["context"].as_object_mut().expect("a mapping").remove("user")))
            .fails(&["OR0301", "names no user"]),
        case("a namespace that is none")
            .changed(|config| config["contexts"][0]["context"]["namespace"] = json!("Of Nobody"))
            .at(TOKEN),
    ]
}

fn servers() -> Vec<Case> {
    let at = |name, url: &str| case(name).server(url);
    vec![
        at("upper case", "HTTPS://API.Example.COM:6443").at(PUBLIC),
        at("a slash at the end", "https://192.0.2.7:6443/").at(PUBLIC),
        at("no port", "https://192.0.2.7").at("192.0.2.7:443"),
        at("an empty port", "https://192.0.2.7:").at("192.0.2.7:443"),
        at("a prefix", "https://192.0.2.7:6443/k8s/clusters/c-1").at("192.0.2.7:6443/k8s/clusters/c-1 "),
        at("a prefix with a slash at the end", "https://192.0.2.7:6443/k8s/").at("192.0.2.7:6443/k8s "),
        at("an underscore", "https://my_cluster.example.com:6443").at(PUBLIC),
        at("a name", "https://alt.example.com:6443").at(PUBLIC),
        at("no scheme", PUBLIC).fails(&["OR0301", "does not begin with https://"]),
        at("plain http", "http://192.0.2.7:6443").fails(&["OR0301", "plain http"]),
        at("no server", "").fails(&["OR0301", "server of this context"]),
        at("a port that is none", "https://192.0.2.7:99999").fails(&["OR0301", "has an invalid port"]),
        at("port 0", "https://192.0.2.7:0").fails(&["OR0301", "has an invalid port"]),
        at("a blank", "https://192.0.2.7:6443 ").fails(&["OR0301", "white space"]),
        at("no certificate for the name", "https://192.0.2.100:6443").fails(&["OR0303"]),
        at("nobody there", "https://192.0.2.200:6443").fails(&["OR0302", "https://192.0.2.200:6443"]),
        at("a password in the address", "https://user:canary@192.0.2.7:6443").at("as Basic").but_refused(
            "the runner would get it in its configuration, where it is shown",
            &["OR0301", "user name"],
        ),
        at("a query", "https://192.0.2.7:6443/prefix?x=y")
            .at(PUBLIC)
            .but_refused("kubectl drops it without a word; no server needs it", &["OR0301", "query"]),
    ]
}

fn trust() -> Vec<Case> {
    let with = |name, change: Value| case(name).cluster(change);
    let encoded = ca();
    let folded: Vec<_> = encoded.as_bytes().chunks(60).map(String::from_utf8_lossy).collect();
    let no_data = |file: &str| json!({"certificate-authority-data": null, "certificate-authority": file});
    vec![
        with("a CA file", no_data("@DIR@/ca.pem")).file("ca.pem", CA.pem()).at(TOKEN),
        with("a CA file that is missing", no_data("@DIR@/ca.pem"))
            .fails(&["OR0301", "ca.pem does not exist"]),
        with("CA data and file", json!({"certificate-authority": "@DIR@/ca.pem"}))
            .file("ca.pem", CA.pem())
            .fails(&["OR0301", "both"]),
        with("CA data over several lines", json!({"certificate-authority-data": folded.join("\n")}))
            .at(TOKEN),
        with("CA data that are no base64", json!({"certificate-authority-data": "?"}))
            .fails(&["OR0301", "certificate-authority-data"]),
        with("report: config view without --raw", json!({"certificate-authority-data": "DATA+OMITTED"}))
            .fails(&["OR0301", "kubectl config view --raw"]),
        with("another CA", json!({"certificate-authority-data": STANDARD.encode(OTHER_CA.pem())}))
            .fails(&["OR0303"]),
        with("no CA, not in the system's roots", json!({"certificate-authority-data": null}))
            .fails(&["OR0303"]),
        with("no CA, in the system's roots", json!({"certificate-authority-data": null}))
            .file("roots.pem", CA.pem())
            .env("SSL_CERT_FILE", "@DIR@/roots.pem")
            .at(TOKEN),
        with(
            "tls-server-name",
            json!({"tls-server-name": "api.example.com", "server": "https://192.0.2.100:6443"}),
        )
        .at("192.0.2.100:6443"),
        with("tls-server-name of nobody", json!({"tls-server-name": "nobody.example.com"}))
            .fails(&["OR0303"]),
        with(
            "insecure-skip-tls-verify",
            json!({"insecure-skip-tls-verify": true, "certificate-authority-data": null}),
        )
        .at(TOKEN)
        .but_refused("anybody on the way could read the token", &["OR0304"]),
        with("insecure-skip-tls-verify and a CA", json!({"insecure-skip-tls-verify": true}))
            .fails(&["OR0304"]),
        with("insecure-skip-tls-verify that is text", json!({"insecure-skip-tls-verify": "true"}))
            .fails(&["OR0301", "\"c\" must be a boolean"]),
    ]
}
