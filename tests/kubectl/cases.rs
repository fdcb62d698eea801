//! The table: kubeconfigs and environments, what kubectl does with them, and where outrigger differs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::lab::CA;

/// What a client does.
#[derive(Clone, Copy)]
pub enum Expect {
    /// It dials the server itself; the request contains this text (the address, who).
    Direct(&'static str),
    /// It asks this proxy alone; the request contains this text.
    Through(&'static str, &'static str),
    /// Nothing arrives at a server.
    Fails,
}

/// One row.
pub struct Case {
    pub name: &'static str,
    /// Path below the case's directory and content; `@DIR@` stands for that directory.
    pub files: Vec<(&'static str, String)>,
    pub env: Vec<(&'static str, String)>,
    pub context: Option<&'static str>,
    pub kubectl: Expect,
    /// What outrigger says.
    pub says: &'static [&'static str],
    /// Where outrigger does something else: why, and what.
    pub differs: Option<(&'static str, Expect)>,
    cluster: Value,
    user: Value,
}

/// The server of most cases.
pub const PUBLIC: &str = "192.0.2.7:6443";
/// Most users' token as it arrives.
pub const TOKEN: &str = "as Bearer good-token";
/// Nobody is there.
const DEAD: &str = "http://192.0.2.200:3128";
const LOCAL: &str = "http://127.0.0.1:3128";

/// A case with a user that has a token, and a server that can be dialled.
pub fn case(name: &'static str) -> Case {
    Case {
        name,
        files: Vec::new(),
        env: Vec::new(),
        context: None,
        kubectl: Expect::Fails,
        says: &[],
        differs: None,
        cluster: json!({"server": format!("https://{PUBLIC}"), "certificate-authority-data": ca()}),
        user: json!({"token": "good-token"}),
    }
}

pub fn ca() -> String {
    STANDARD.encode(CA.pem())
}

impl Case {
    /// Another server.
    pub fn server(self, url: &str) -> Self {
        self.cluster(json!({"server": url}))
    }

    /// Adds to the cluster; null takes away.
    pub fn cluster(mut self, change: Value) -> Self {
        merge(&mut self.cluster, change);
        self
    }

    /// Another user.
    pub fn user(mut self, user: Value) -> Self {
        self.user = user;
        self
    }

    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    pub fn file(mut self, path: &'static str, text: impl Into<String>) -> Self {
        self.files.push((path, text.into()));
        self
    }

    pub fn context(mut self, name: &'static str) -> Self {
        self.context = Some(name);
        self
    }

    pub fn says(mut self, words: &'static [&'static str]) -> Self {
        self.says = words;
        self
    }

    fn direct(self) -> Self {
        self.at(PUBLIC)
    }

    /// Both dial the server themselves.
    pub fn at(mut self, place: &'static str) -> Self {
        self.kubectl = Expect::Direct(place);
        self
    }

    /// Both go through a proxy.
    pub fn through(mut self, proxy: &'static str) -> Self {
        self.kubectl = Expect::Through(proxy, TOKEN);
        self
    }

    /// Neither arrives anywhere, and outrigger says these words.
    pub fn fails(mut self, words: &'static [&'static str]) -> Self {
        self.kubectl = Expect::Fails;
        self.says(words)
    }

    /// outrigger does something else than kubectl, for this reason.
    pub fn but(mut self, reason: &'static str, expect: Expect) -> Self {
        self.differs = Some((reason, expect));
        self
    }

    /// outrigger refuses, with these words, what kubectl takes.
    pub fn but_refused(self, reason: &'static str, words: &'static [&'static str]) -> Self {
        self.says(words).but(reason, Expect::Fails)
    }

    /// The kubeconfig of cluster and user.
    pub fn config(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": self.cluster}],
            "users": [{"name": "u", "user": self.user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        })
    }

    /// The same with a change.
    pub fn changed(self, change: impl FnOnce(&mut Value)) -> Self {
        let mut config = self.config();
        change(&mut config);
        let text = serde_yaml::to_string(&config).expect("plain data");
        self.file("config", text)
    }

    fn finished(mut self) -> Self {
        if !self.files.iter().any(|(path, _)| *path == "config") {
            self = self.changed(|_| ());
        }
        if !self.env.iter().any(|(name, _)| *name == "KUBECONFIG") {
            self = self.env("KUBECONFIG", "@DIR@/config");
        }
        self
    }
}

fn merge(into: &mut Value, change: Value) {
    let (Value::Object(into), Value::Object(change)) = (into, change) else { panic!("two mappings") };
    for (key, value) in change {
        if value.is_null() {
            into.remove(&key);
        } else {
            into.insert(key, value);
        }
    }
}

/// All rows.
pub fn all() -> Vec<Case> {
    let rows = [
        environment(),
        exceptions(),
        schemes(),
        proxy_url(),
        crate::cluster_cases::all(),
        crate::user_cases::all(),
    ];
    rows.into_iter().flatten().map(Case::finished).collect()
}

fn proxied(name: &'static str) -> Case {
    case(name).env("HTTPS_PROXY", LOCAL)
}

const ASKED: &str = "http proxy CONNECT 192.0.2.7:6443";
const ASKED_BY_NAME: &str = "http proxy CONNECT api.example.com:6443";

/// Which variables count.
fn environment() -> Vec<Case> {
    vec![
        case("no proxy").direct(),
        proxied("HTTPS_PROXY").through(ASKED),
        case("https_proxy").env("https_proxy", LOCAL).through(ASKED),
        proxied("upper case before lower case").env("https_proxy", DEAD).through(ASKED),
        case("an empty variable is none").env("HTTPS_PROXY", "").env("https_proxy", LOCAL).through(ASKED),
        case("HTTP_PROXY is not for https").env("HTTP_PROXY", DEAD).env("http_proxy", DEAD).direct(),
        case("ALL_PROXY is ignored").env("ALL_PROXY", DEAD).env("all_proxy", DEAD).direct(),
        proxied("a CGI variable does not count for https").env("REQUEST_METHOD", "GET").through(ASKED),
        case("a proxy that is not there")
            .env("HTTPS_PROXY", DEAD)
            .fails(&["OR0302", "through the proxy http://192.0.2.200:3128 (HTTPS_PROXY)"]),
        case("a proxy that refuses")
            .env("HTTPS_PROXY", "http://proxy.example.com:3130")
            .fails(&["OR0302", "through the proxy http://proxy.example.com:3130 (HTTPS_PROXY)"]),
        proxied("a server that only the proxy reaches")
            .server("https://192.0.2.8:6443")
            .through("http proxy CONNECT 192.0.2.8:6443"),
        proxied("a name that only the proxy resolves")
            .server("https://hidden.example.com:6443")
            .through("http proxy CONNECT hidden.example.com:6443"),
        // Public reports: a list with a comma at the end, or with blanks in place of commas.
        proxied("report: a comma at the end").env("NO_PROXY", ".corp.example,10.9.0.0/16,").through(ASKED),
        proxied("report: a blank in place of the comma")
            .env("NO_PROXY", ".corp.example 10.9.0.0/16")
            .through(ASKED),
        proxied("report: a comma at the end, loopback server")
            .server("https://127.0.0.1:6443")
            .env("NO_PROXY", ".corp.example,10.9.0.0/16,")
            .at("127.0.0.1:6443"),
        case("report: a comma at the end, proxy-url")
            .cluster(json!({"proxy-url": LOCAL}))
            .env("NO_PROXY", ".corp.example,10.9.0.0/16,")
            .through(ASKED),
        // A proxy on this machine is not excepted by a list that names this machine.
        proxied("report: a proxy on loopback").env("NO_PROXY", "localhost,127.0.0.1").through(ASKED),
        proxied("report: a proxy on loopback, network").env("NO_PROXY", "127.0.0.0/8").through(ASKED),
        case("report: no scheme").env("HTTPS_PROXY", "127.0.0.1:3128").through(ASKED),
        case("report: no scheme, a name").env("HTTPS_PROXY", "proxy.example.com:3128").through(ASKED),
    ]
}

/// What `NO_PROXY` names.
fn exceptions() -> Vec<Case> {
    let private = |name, list: &str| {
        case(name).server("https://10.1.2.3:6443").env("HTTPS_PROXY", LOCAL).env("NO_PROXY", list)
    };
    let named = |name, list: &str| {
        case(name).server("https://api.example.com:6443").env("HTTPS_PROXY", LOCAL).env("NO_PROXY", list)
    };
    let own = |name, server: &str| case(name).server(server).env("HTTPS_PROXY", LOCAL);
    let (here, asked) = ("10.1.2.3:6443", "http proxy CONNECT 10.1.2.3:6443");
    vec![
        private("report: a network", "10.0.0.0/8").at(here),
        private("report: an address with a port", "10.1.2.3:6443").at(here),
        private("an address", "10.1.2.3").at(here),
        private("an address with another port", "10.1.2.3:443").through(asked),
        private("another network", "10.2.0.0/16").through(asked),
        private("a network with a port is none", "10.0.0.0/8:6443").through(asked),
        private("a part of an address is no suffix", ".2.3").through(asked),
        private("a mapped address", "::ffff:10.1.2.3").at(here),
        private("everything", "*").at(here),
        private("everything among others", "x.example, *").at(here),
        private("nothing but commas", ",,").through(asked),
        named("a domain", "example.com").at(PUBLIC),
        named("a domain with a dot", ".example.com").at(PUBLIC),
        named("a domain with a star", "*.example.com").at(PUBLIC),
        named("a domain in upper case", "EXAMPLE.COM").at(PUBLIC),
        named("the name", "api.example.com").at(PUBLIC),
        named("the name with its port", "api.example.com:6443").at(PUBLIC),
        named("the name with another port", "api.example.com:443").through(ASKED_BY_NAME),
        named("the name with a dot is what is below it", ".api.example.com").through(ASKED_BY_NAME),
        named("half a label", "ample.com").through(ASKED_BY_NAME),
        named("blanks around entries", " a.example ,\texample.com ,").at(PUBLIC),
        named("the address of a name", "192.0.2.7,192.0.2.0/24").through(ASKED_BY_NAME),
        named("a URL is no entry", "https://api.example.com").through(ASKED_BY_NAME),
        case("no_proxy in lower case").env("HTTPS_PROXY", DEAD).env("no_proxy", "192.0.2.0/24").direct(),
        proxied("NO_PROXY before no_proxy").env("NO_PROXY", "x.example").env("no_proxy", "*").through(ASKED),
        case("an empty NO_PROXY is none")
            .env("HTTPS_PROXY", DEAD)
            .env("NO_PROXY", "")
            .env("no_proxy", "*")
            .direct(),
        own("loopback", "https://127.0.0.1:6443").at("127.0.0.1:6443"),
        own("another loopback address", "https://127.0.0.2:6443").at("127.0.0.2:6443"),
        own("loopback, version 6", "https://[::1]:6443").at("[::1]:6443"),
        own("localhost", "https://localhost:6443").at(":6443"),
        own("LOCALHOST", "https://LOCALHOST:6443")
            .through("http proxy CONNECT LOCALHOST:6443")
            .but("host names have no case; Go knows this one in lower case only", Expect::Direct(":6443")),
        own("a name below localhost", "https://k3d.localhost:6443")
            .through("http proxy CONNECT k3d.localhost:6443"),
        own("the host as containers call it", "https://kubernetes.docker.internal:6443")
            .through("http proxy CONNECT kubernetes.docker.internal:6443"),
        case("version 6").server("https://[2001:db8::7]:6443").at("[2001:db8::7]:6443"),
        proxied("version 6 through a proxy")
            .server("https://[2001:db8::7]:6443")
            .through("http proxy CONNECT [2001:db8::7]:6443"),
        case("a version 6 network")
            .server("https://[2001:db8::7]:6443")
            .env("HTTPS_PROXY", DEAD)
            .env("NO_PROXY", "2001:db8::/32")
            .at("[2001:db8::7]:6443"),
        case("a version 6 address with a port")
            .server("https://[2001:db8::7]:6443")
            .env("HTTPS_PROXY", DEAD)
            .env("NO_PROXY", "[2001:db8::7]:6443")
            .at("[2001:db8::7]:6443"),
        case("a name that is not ASCII")
            .server("https://bücher.example:6443")
            .env("HTTPS_PROXY", DEAD)
            .env("NO_PROXY", "bücher.example")
            .at(PUBLIC),
    ]
}

/// How a proxy may be written.
fn schemes() -> Vec<Case> {
    let by = |name, proxy: &str| case(name).env("HTTPS_PROXY", proxy);
    vec![
        by("socks5", "socks5://127.0.0.1:1080").through("socks proxy 192.0.2.7:6443"),
        by("socks5h", "socks5h://127.0.0.1:1080").through("socks proxy 192.0.2.7:6443"),
        by("socks5 without a port", "socks5://proxy.example.com").through("socks proxy 192.0.2.7:6443"),
        by("socks5 resolves names", "socks5://127.0.0.1:1080")
            .server("https://hidden.example.com:6443")
            .through("socks proxy name hidden.example.com:6443"),
        by("socks5 to version 6", "socks5://127.0.0.1:1080")
            .server("https://[2001:db8::7]:6443")
            .through("socks proxy 2001:db8::7:6443"),
        by("socks5 with a password", "socks5://user:pass@127.0.0.1:1080")
            .through("socks proxy 192.0.2.7:6443 as user:pass"),
        by("https", "https://proxy.example.com:3129").through("https proxy CONNECT 192.0.2.7:6443"),
        by("http without a port", "http://proxy.example.com")
            .through("http proxy on port 80 CONNECT 192.0.2.7:6443"),
        by("a path behind it", "http://127.0.0.1:3128/some/path?x").through(ASKED),
        by("upper case", "HTTP://PROXY.example.com:3128").through(ASKED),
        by("version 6 proxy", "http://[::1]:3128").through(ASKED),
        by("a password", "http://user:pa%40ss@127.0.0.1:3128")
            .through("http proxy CONNECT 192.0.2.7:6443 as user:pa@ss"),
        by("a password without a scheme", "user:pass@127.0.0.1:3128")
            .through("http proxy CONNECT 192.0.2.7:6443 as user:pass"),
        by("a scheme and nothing else", "http://").fails(&["OR0350", "HTTPS_PROXY", "no host"]),
        by("a port that is no number", "http://user:canary@127.0.0.1:port")
            .fails(&["OR0350", "has an invalid port"]),
        by("a blank behind it", "http://127.0.0.1:3128 ").fails(&["OR0350", "white space"]),
        by("a scheme that no proxy has", "ftp://127.0.0.1:3128").through(ASKED).but_refused(
            "Go speaks http to it; a typing error is better named",
            &["OR0350", "only http, https and socks5"],
        ),
        by("an address that is none", "http://[::1:3128").fails(&["OR0350", "has an invalid host"]),
        by("a blank before it", " http://127.0.0.1:3128").direct().but_refused(
            "Go ignores it and goes directly, a way that nobody chose",
            &["OR0350", "HTTPS_PROXY"],
        ),
        by("nonsense that does not count", "ftp://127.0.0.1:3128").env("NO_PROXY", "*").direct(),
    ]
}

/// The kubeconfig's own proxy.
fn proxy_url() -> Vec<Case> {
    let by = |name, url: &str| case(name).cluster(json!({"proxy-url": url}));
    vec![
        by("proxy-url", LOCAL).through(ASKED),
        by("report: proxy-url and NO_PROXY", LOCAL).env("NO_PROXY", "localhost,127.0.0.1").through(ASKED),
        by("report: proxy-url by socks5 and NO_PROXY", "socks5://127.0.0.1:1080")
            .env("NO_PROXY", "localhost,127.0.0.1")
            .through("socks proxy 192.0.2.7:6443"),
        by("report: proxy-url and NO_PROXY=*", LOCAL).env("NO_PROXY", "*").through(ASKED),
        by("report: proxy-url by name and NO_PROXY", "socks5://localhost:1080")
            .env("NO_PROXY", "localhost,127.0.0.1")
            .through("socks proxy 192.0.2.7:6443"),
        by("proxy-url before HTTPS_PROXY", LOCAL).env("HTTPS_PROXY", DEAD).through(ASKED),
        by("proxy-url for a loopback server", LOCAL)
            .server("https://127.0.0.1:6443")
            .through("http proxy CONNECT 127.0.0.1:6443"),
        by("an empty proxy-url", "").env("HTTPS_PROXY", LOCAL).through(ASKED),
        by("proxy-url by https", "https://proxy.example.com:3129")
            .through("https proxy CONNECT 192.0.2.7:6443"),
        by("proxy-url with a password", "http://user:pass@127.0.0.1:3128")
            .through("http proxy CONNECT 192.0.2.7:6443 as user:pass"),
        by("proxy-url without a scheme", "127.0.0.1:3128").fails(&[
            "OR0350",
            "no scheme",
            "http://HOST:PORT",
        ]),
        by("proxy-url without a scheme, a name", "proxy.example.com:3128").fails(&["OR0350", "no scheme"]),
        by("proxy-url with an odd scheme", "ftp://user:canary@127.0.0.1:3128")
            .fails(&["OR0350", "only http, https and socks5"]),
        by("proxy-url by socks5h", "socks5h://127.0.0.1:1080").but(
            "it is what socks5 means here, and HTTPS_PROXY takes it, too",
            Expect::Through("socks proxy 192.0.2.7:6443", TOKEN),
        ),
    ]
}
