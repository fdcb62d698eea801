use std::collections::BTreeMap;

use crate::base::error::Id;
use proptest::prelude::*;

use super::{from_env, from_kubeconfig, without_userinfo};

fn env(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The proxy of `https://host:port` with this `NO_PROXY`.
fn way(list: &str, host: &str, port: u16) -> Option<String> {
    let env = env(&[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", list)]);
    from_env(&env, true, host, port).expect("a good proxy").map(|proxy| proxy.shown())
}

fn direct(list: &str, host: &str, port: u16) -> bool {
    way(list, host, port).is_none()
}

#[test]
fn no_proxy_may_contain_spaces_and_empty_entries() {
    for list in ["a.example,", ",a.example", " a.example , ", "x,,a.example", "\ta.example"] {
        assert!(direct(list, "a.example", 443), "{list:?}");
        assert!(!direct(list, "b.example", 443), "{list:?}");
    }
    // As in Go, a space does not separate entries.
    assert!(!direct("a.example b.example", "b.example", 443));
    assert!(!direct("", "a.example", 443) && !direct(",", "a.example", 443));
}

#[test]
fn no_proxy_covers_networks_ports_and_names() {
    for list in ["10.0.0.0/8", "10.1.2.3", "10.1.2.3:6443", "*", "x,*", "::ffff:10.1.2.3"] {
        assert!(direct(list, "10.1.2.3", 6443), "{list:?}");
    }
    for list in ["10.1.2.3:443", "10.2.0.0/16", "10.1.2", ".2.3", "10.0.0.0/8:6443", "10.1.2.3/33"] {
        assert!(!direct(list, "10.1.2.3", 6443), "{list:?}");
    }
    for list in ["example.com", ".example.com", "*.example.com", "EXAMPLE.com", "example.com:6443"] {
        assert!(direct(list, "api.example.com", 6443), "{list:?}");
    }
    for list in [".api.example.com", "*.api.example.com", "ample.com", "example.com:443", "api.*"] {
        assert!(!direct(list, "api.example.com", 6443), "{list:?}");
    }
    assert!(direct("[2001:db8::1]:6443", "2001:db8::1", 6443));
    assert!(direct("2001:db8::/32", "2001:db8::1", 6443));
    assert!(direct("bücher.example", "api.xn--bcher-kva.example", 443));
}

#[test]
fn connects_to_loopback_without_a_proxy() {
    for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert!(direct("", host, 6443), "{host}");
    }
    // As in Go: behind a proxy, these may be other hosts.
    for host in ["0.0.0.0", "k3d.localhost", "host.docker.internal"] {
        assert!(!direct("", host, 6443), "{host}");
    }
}

#[test]
fn reads_the_variables_as_go_does() {
    let chosen = |variables: &[(&str, &str)]| {
        from_env(&env(variables), true, "a.example", 443).expect("fine").map(|proxy| proxy.shown())
    };
    assert_eq!(
        chosen(&[("HTTPS_PROXY", "upper:1"), ("https_proxy", "lower:2")]).as_deref(),
        Some("http://upper:1")
    );
    assert_eq!(chosen(&[("HTTPS_PROXY", ""), ("https_proxy", "lower:2")]).as_deref(), Some("http://lower:2"));
    assert_eq!(chosen(&[("HTTP_PROXY", "plain:1"), ("ALL_PROXY", "all:2"), ("all_proxy", "all:3")]), None);
    assert_eq!(
        chosen(&[("HTTPS_PROXY", "p:1"), ("NO_PROXY", "b.example"), ("no_proxy", "*")]).as_deref(),
        Some("http://p:1")
    );
    assert_eq!(chosen(&[("HTTPS_PROXY", "p:1"), ("NO_PROXY", ""), ("no_proxy", "*")]), None);
}

#[test]
fn parses_proxy_urls() {
    let shown = |value: &str| {
        let found = from_env(&env(&[("HTTPS_PROXY", value)]), true, "a.example", 443);
        found
            .map(|proxy| proxy.expect("one is named").shown())
            .map_err(|failure| failure.details[0].1.clone())
    };
    for (value, expected) in [
        ("127.0.0.1:47491", "http://127.0.0.1:47491"),
        ("proxy", "http://proxy:80"),
        ("http://proxy", "http://proxy:80"),
        ("HTTP://Proxy:3128/", "http://proxy:3128"),
        ("https://proxy", "https://proxy:443"),
        ("socks5://proxy", "socks5://proxy:1080"),
        ("socks5h://proxy:80", "socks5://proxy:80"),
        ("[::1]:3128", "http://[::1]:3128"),
        ("http://[2001:db8::1]", "http://[2001:db8::1]:80"),
        ("user:pa%40ss@proxy:3128", "http://proxy:3128"),
    ] {
        assert_eq!(shown(value).as_deref(), Ok(expected), "{value}");
    }
    for (value, why) in [
        ("http://", "no host"),
        (":3128", "no host"),
        ("http://proxy:port", "port"),
        ("http://proxy:0", "port"),
        ("http://proxy:65536", "port"),
        ("http://proxy:3128 ", "white space"),
        ("http://[::1:3128", "host"),
        ("socks4://proxy", "only http, https and socks5"),
        ("ftp://proxy", "only http, https and socks5"),
    ] {
        assert!(shown(value).expect_err(value).contains(why), "{value}");
    }
    // A variable that does not apply is not checked.
    let unused = env(&[("HTTPS_PROXY", "ftp://proxy"), ("NO_PROXY", "*")]);
    assert!(from_env(&unused, true, "a.example", 443).expect("it does not count").is_none());
}

#[test]
fn plain_http_uses_http_proxy() {
    let variables = [("HTTP_PROXY", "plain:1"), ("HTTPS_PROXY", "tls:2")];
    let chosen = from_env(&env(&variables), false, "a.example", 80).expect("fine").expect("a proxy");
    assert_eq!(chosen.shown(), "http://plain:1");
    let cgi = [&variables[..], &[("REQUEST_METHOD", "GET")]].concat();
    assert_eq!(from_env(&env(&cgi), false, "a.example", 80).expect_err("refused").id, Id::InvalidProxy);
    assert!(from_env(&env(&cgi), false, "127.0.0.1", 80).expect("not needed").is_none());
    assert!(from_env(&env(&cgi), true, "a.example", 443).expect("not concerned").is_some());
}

#[test]
fn a_kubeconfig_proxy_needs_a_scheme() {
    assert_eq!(from_kubeconfig("socks5://localhost:1080").expect("fine").shown(), "socks5://localhost:1080");
    for bad in ["proxy:3128", "127.0.0.1:3128", "ftp://proxy", "http://"] {
        assert_eq!(from_kubeconfig(bad).expect_err(bad).id, Id::InvalidProxy);
    }
}

#[test]
fn credentials_are_used_but_not_shown() {
    let variables = env(&[("HTTPS_PROXY", "http://user:canary-pa%2Fss@proxy:3128")]);
    let proxy = from_env(&variables, true, "a.example", 443).expect("fine").expect("a proxy");
    assert_eq!(proxy.url("http").expose(), "http://user:canary-pa%2Fss@proxy:3128");
    assert!(!format!("{proxy} {proxy:?} {}", proxy.shown()).contains("canary"));
    assert_eq!(without_userinfo("https://u:p/a@ss@host/x"), "https://…@host/x");
    assert_eq!(without_userinfo("https://host/x"), "https://host/x");
    assert_eq!(without_userinfo("user:canary@://"), "…@://");
    assert_eq!(without_userinfo("user:ca://nary@host"), "…@host");
}

proptest! {
    #[test]
    fn nothing_panics_and_no_password_is_shown(
        proxy in "(http|https|socks5|ftp)?(://)?(user:canary-77@)?[a-z0-9:\\[\\]. /\\\\é-]{0,20}",
        list in "[a-z0-9:\\[\\]./*, é-]{0,30}",
        host in "[a-z0-9:.é-]{1,20}",
        port in any::<u16>(),
    ) {
        let variables = env(&[("HTTPS_PROXY", &proxy), ("NO_PROXY", &list)]);
        let text = match from_env(&variables, true, &host, port) {
            Ok(proxy) => format!("{proxy:?} {}", proxy.as_ref().map(ToString::to_string).unwrap_or_default()),
            Err(failure) => format!("{failure:?}"),
        };
        prop_assert!(!text.contains("canary-77"), "{}", text);
    }

    #[test]
    fn spaces_and_empty_entries_change_nothing(
        entries in prop::collection::vec("(\\*?\\.)?[a-z]{1,3}(\\.example)?(:443)?", 0..4),
        host in "[a-z]{1,3}(\\.example)?",
    ) {
        let plain = direct(&entries.join(","), &host, 443);
        let padded: Vec<String> = entries.iter().map(|entry| format!(" {entry}\t,")).collect();
        prop_assert_eq!(plain, direct(&format!(",{}", padded.join(",")), &host, 443));
    }
}
