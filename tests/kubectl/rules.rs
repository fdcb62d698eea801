//! The choice of a proxy held against Go's, without any connection: rows, and lists made at random.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use libtest_mimic::{Completion, Failed, Trial};
use outrigger::internal::Endpoint;
use outrigger::internal::proxy;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde::Deserialize;
use serde_json::json;

/// How many lists are made at random; the same ones every time.
const RANDOM: usize = 4000;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::ignorable_test("go/rows", || with_go(&rows())).with_kind("go"),
        Trial::ignorable_test("go/random", || with_go(&random())).with_kind("go"),
    ]
}

#[derive(Clone, Debug)]
struct Question {
    env: BTreeMap<String, String>,
    url: String,
    /// Why our answer is another one.
    differs: Option<&'static str>,
}

fn ask(env: &[(&str, &str)], url: &str) -> Question {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Question { env, url: url.to_owned(), differs: None }
}

const UNUSABLE: &str = "a variable that cannot be understood is refused, and not ignored or guessed at";

fn rows() -> Vec<Question> {
    let mut rows = Vec::new();
    let good = "http://proxy.example:3128";
    for (env, url) in [
        (&[][..], "https://a.example"),
        (&[("HTTPS_PROXY", good)], "https://a.example"),
        (&[("HTTPS_PROXY", good), ("https_proxy", "http://other:1")], "https://a.example"),
        (&[("HTTPS_PROXY", ""), ("https_proxy", good)], "https://a.example"),
        (&[("HTTP_PROXY", good), ("ALL_PROXY", good)], "https://a.example"),
        (&[("HTTP_PROXY", good), ("HTTPS_PROXY", "http://other:1")], "http://a.example"),
        (&[("http_proxy", good)], "http://a.example:8080"),
        (&[("HTTP_PROXY", good), ("REQUEST_METHOD", "GET")], "http://a.example"),
        (&[("HTTPS_PROXY", good), ("REQUEST_METHOD", "GET")], "https://a.example"),
        (&[("HTTPS_PROXY", good), ("no_proxy", "a.example")], "https://a.example"),
        (&[("HTTPS_PROXY", good), ("NO_PROXY", "b"), ("no_proxy", "a.example")], "https://a.example"),
        (&[("HTTPS_PROXY", good), ("NO_PROXY", ""), ("no_proxy", "a.example")], "https://a.example"),
    ] {
        rows.push(ask(env, url));
    }
    for proxy in [
        "proxy.example:3128",
        "proxy.example",
        "127.0.0.1:3128",
        "[::1]:3128",
        "user:pa%40ss@proxy.example:3128",
        "http://proxy.example",
        "https://proxy.example",
        "https://proxy.example:8443/path?query#fragment",
        "socks5://proxy.example",
        "socks5h://proxy.example:1081",
        "HTTP://proxy.example:3128",
    ] {
        rows.push(ask(&[("HTTPS_PROXY", proxy)], "https://a.example:6443"));
    }
    let question = ask(&[("HTTP_PROXY", good), ("REQUEST_METHOD", "GET")], "http://127.0.0.1");
    rows.push(Question { differs: Some("a proxy that is not used is not judged"), ..question });
    for proxy in [
        "http://",
        ":3128",
        "http://[::1",
        "http://proxy.example:port",
        "http://proxy.example:3128 ",
        " ",
        "ftp://proxy.example",
        "socks4://proxy.example",
    ] {
        let question = ask(&[("HTTPS_PROXY", proxy)], "https://a.example");
        rows.push(Question { differs: Some(UNUSABLE), ..question });
    }
    for host in [
        "localhost",
        "127.0.0.1",
        "127.255.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "a.localhost",
        "localhost.example",
        "host.docker.internal",
        "bücher.example",
    ] {
        rows.push(ask(&[("HTTPS_PROXY", good)], &format!("https://{host}:6443")));
    }
    let question = ask(&[("HTTPS_PROXY", good)], "https://LOCALHOST");
    rows.push(Question {
        differs: Some("host names have no case; Go knows this one in lower case only"),
        ..question
    });
    rows
}

fn random() -> Vec<Question> {
    let entry = prop_oneof![
        4 => "(\\*?\\.)?(a|api|EXAMPLE|example)(\\.example|\\.com|\\.EXAMPLE)?(:443|:6443|:)?",
        3 => "10\\.[01]\\.2\\.3(/(0|8|16|32|33|x))?(:443|:6443)?",
        2 => "\\[?2001:db8::[17]\\]?(/(0|32|128|129))?(:6443)?",
        1 => "::ffff:10\\.1\\.2\\.3(/(90|104|128))?",
        1 => "(\\.|\\*\\.)?bücher\\.example(:6443)?",
        1 => "\\*|localhost|\\.|\\*\\.|127\\.0\\.0\\.1|::1",
        1 => "[a-z0-9:./*]{0,7}",
    ];
    let list = prop::collection::vec((entry, "[ \t]{0,1}"), 0..4).prop_map(|entries| {
        entries.iter().map(|(entry, blank)| format!("{blank}{entry}{blank}")).collect::<Vec<_>>().join(",")
    });
    let host = prop_oneof![
        4 => "(a|api|b)(\\.example|\\.com|\\.example\\.com)?",
        3 => "10\\.[01]\\.2\\.[34]",
        2 => "\\[2001:db8::[17]\\]",
        1 => "\\[::ffff:10\\.1\\.2\\.3\\]|127\\.0\\.0\\.[12]|\\[::1\\]|localhost",
        1 => "(api\\.)?bücher\\.example|(api\\.)?xn--bcher-kva\\.example",
    ];
    let question = (list, host, prop_oneof!["", ":443", ":6443"]);
    let mut runner = TestRunner::deterministic();
    (0..RANDOM)
        .map(|_| {
            let (list, host, port) =
                question.new_tree(&mut runner).expect("a strategy that never fails").current();
            ask(
                &[("HTTPS_PROXY", "http://proxy.example:3128"), ("NO_PROXY", &list)],
                &format!("https://{host}{port}"),
            )
        })
        .collect()
}

/// Our choice: the proxy, nothing, or that it is refused.
fn ours(question: &Question) -> Option<String> {
    let chosen = if let Some(place) = question.url.strip_prefix("http://") {
        let (host, port) = place.split_once(':').unwrap_or((place, "80"));
        proxy::from_env(&question.env, false, host, port.parse().expect("a port"))
    } else {
        let endpoint = Endpoint::parse(&question.url, "the row").expect("rows have good addresses");
        proxy::from_env(&question.env, true, &endpoint.host, endpoint.port)
    };
    match chosen {
        Ok(chosen) => {
            Some(chosen.map(|proxy| proxy.url(proxy.scheme.name()).expose().to_owned()).unwrap_or_default())
        }
        Err(_) => None,
    }
}

/// Go's URL in the form of ours: with its port, without what is behind the host.
fn normal(url: &str) -> String {
    let Ok(url) = url::Url::parse(url) else { return url.to_owned() };
    let (scheme, port) = match url.scheme() {
        "socks5" | "socks5h" => ("socks5", 1080),
        other => (other, url.port_or_known_default().unwrap_or(0)),
    };
    let port = url.port().unwrap_or(port);
    let host = url.host_str().unwrap_or_default();
    match (url.username(), url.password()) {
        ("", None) => format!("{scheme}://{host}:{port}"),
        (user, password) => format!("{scheme}://{user}:{}@{host}:{port}", password.unwrap_or_default()),
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    proxy: String,
    error: String,
}

fn with_go(questions: &[Question]) -> Result<Completion, Failed> {
    static PROGRAM: LazyLock<Result<tempfile::TempDir, String>> = LazyLock::new(build);
    if Command::new("go").arg("version").output().is_err() {
        let why = "go is not on the PATH";
        return if crate::common::tiers_required() {
            Err(why.into())
        } else {
            Ok(Completion::ignored_with(why))
        };
    }
    let dir = PROGRAM.as_ref().map_err(Clone::clone)?;
    let mut child = Command::new(dir.path().join("proxy"))
        .env_remove("GODEBUG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = questions.iter().fold(String::new(), |lines, question| {
        lines + &json!({"env": question.env, "url": question.url}).to_string() + "\n"
    });
    let mut stdin = child.stdin.take().ok_or("no stdin")?;
    // Beside the reading below: both pipes would fill up otherwise.
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().map_err(|_| "the writer panicked")??;
    let answers: Vec<Answer> =
        String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    if answers.len() != questions.len() {
        return Err(format!("{} answers to {} questions", answers.len(), questions.len()).into());
    }
    let mut wrong = String::new();
    for (question, go) in questions.iter().zip(&answers) {
        let go_says = if go.error.is_empty() { Some(normal(&go.proxy)) } else { None };
        let we_say = ours(question);
        if (go_says == we_say) == question.differs.is_some() {
            let _ = write!(wrong, "\n{question:?}\n  Go: {go:?}\n  we: {we_say:?}");
        }
    }
    if wrong.is_empty() { Ok(Completion::Completed) } else { Err(wrong.into()) }
}

fn build() -> Result<tempfile::TempDir, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(dir.path().join("proxy"))
        .arg("./proxy")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/go"))
        .output()
        .map_err(|error| error.to_string())?;
    if built.status.success() { Ok(dir) } else { Err(String::from_utf8_lossy(&built.stderr).into_owned()) }
}
