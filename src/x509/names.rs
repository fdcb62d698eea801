//! Host names and name constraints: ports of Go's `Certificate.VerifyHostname` (verify.go) and of
//! `constraints.go`.

use std::net::IpAddr;

use super::Host;

/// Names of a certificate that are shown at most.
const MOST_NAMES: usize = 20;

/// The names in the subjectAltName extension of a certificate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names<'a> {
    pub dns: Vec<&'a str>,
    /// 4 or 16 bytes each.
    pub ips: Vec<&'a [u8]>,
    pub emails: Vec<&'a str>,
    pub uris: Vec<&'a str>,
}

impl Names<'_> {
    /// Whether the certificate is valid for the host; the common name is ignored.
    pub fn speak_for(&self, host: &Host) -> bool {
        match host {
            Host::Ip(address) => self.ips.iter().any(|bytes| same_address(bytes, *address)),
            Host::Name(name) => self.dns.iter().any(|pattern| matches_name(pattern, name)),
        }
    }

    /// DNS names and IP addresses.
    pub fn all(&self) -> Vec<String> {
        let addresses = self.ips.iter().filter_map(|bytes| address(bytes)).map(|ip| ip.to_string());
        self.dns.iter().map(|&name| name.to_owned()).chain(addresses).collect()
    }

    /// The names for a message, at most [`MOST_NAMES`].
    pub fn list(&self) -> String {
        let mut all = self.all();
        if all.len() > MOST_NAMES {
            let more = format!("{} more", all.len() - MOST_NAMES);
            all.truncate(MOST_NAMES);
            all.push(more);
        }
        if all.is_empty() { "no DNS name and no IP address".to_owned() } else { all.join(", ") }
    }
}

/// One side (permitted or excluded) of a nameConstraints extension.
#[derive(Debug, Default)]
pub(super) struct Subtrees<'a> {
    pub dns: Vec<&'a str>,
    /// Address followed by mask: 8 or 32 bytes.
    pub ips: Vec<&'a [u8]>,
    pub emails: Vec<&'a str>,
    pub uris: Vec<&'a str>,
}

/// A nameConstraints extension.
#[derive(Debug, Default)]
pub(super) struct Constraints<'a> {
    pub permitted: Subtrees<'a>,
    pub excluded: Subtrees<'a>,
}

impl Constraints<'_> {
    /// The first name that violates the constraints, with the reason.
    pub fn refuse(&self, names: &Names) -> Option<String> {
        for ip in &names.ips {
            let shown = address(ip).map_or_else(|| "an IP address".to_owned(), |ip| ip.to_string());
            let verdict = self.judge(|side| (side.ips.len(), side.ips.iter().any(|net| contains(net, ip))));
            if let Some(why) = verdict {
                return Some(format!("{shown} {why}"));
            }
        }
        for dns in &names.dns {
            if !valid_domain(dns, false) {
                return Some(format!("{dns} is not a valid name"));
            }
            if let Some(why) = self.dns_verdict(dns, |side| &side.dns) {
                return Some(format!("{dns} {why}"));
            }
        }
        for uri in &names.uris {
            let Some(host) = uri_host(uri) else {
                return Some(format!("{uri} has no host name to compare"));
            };
            if let Some(why) = self.dns_verdict(&host, |side| &side.uris) {
                return Some(format!("{uri} {why}"));
            }
        }
        for email in &names.emails {
            let Some((local, domain)) = email.rsplit_once('@').filter(|(local, _)| !local.is_empty()) else {
                return Some(format!("{email} is not a valid mail address"));
            };
            let fits = |constraint: &&str| match constraint.rsplit_once('@') {
                Some((mailbox, at)) => mailbox == local && at.eq_ignore_ascii_case(domain),
                None => has_suffix(constraint, domain),
            };
            if let Some(why) = self.judge(|side| (side.emails.len(), side.emails.iter().any(fits))) {
                return Some(format!("{email} {why}"));
            }
        }
        None
    }

    fn dns_verdict<'s>(
        &'s self,
        name: &str,
        of: impl Fn(&'s Subtrees<'s>) -> &'s Vec<&'s str>,
    ) -> Option<String> {
        let permitted = of(&self.permitted);
        if !permitted.is_empty() && !permitted.iter().any(|constraint| has_suffix(constraint, name)) {
            return Some("is not among the permitted names".to_owned());
        }
        // A wildcard can match the excluded name: `*.a.b` matches an excluded `x.a.b`.
        let rest = name.starts_with('*').then(|| first_label_off(name));
        let hit = |constraint: &&str| {
            has_suffix(constraint, name)
                || rest.is_some_and(|rest| {
                    !rest.is_empty() && first_label_off(constraint).eq_ignore_ascii_case(rest)
                })
        };
        of(&self.excluded).iter().any(hit).then(|| "is among the excluded names".to_owned())
    }

    /// `look` returns the number of a side's constraints, and whether one of them matches.
    fn judge(&self, look: impl Fn(&Subtrees) -> (usize, bool)) -> Option<&'static str> {
        let (permitted, fits) = look(&self.permitted);
        if permitted > 0 && !fits {
            return Some("is not among the permitted names");
        }
        look(&self.excluded).1.then_some("is among the excluded names")
    }
}

/// Go's `matchHostnames`, with its exact comparison of names that are not valid host names.
fn matches_name(pattern: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let bare = host.strip_suffix('.').unwrap_or(&host);
    if !(valid_host(bare, false) && valid_host(pattern, true)) {
        let empty = |name: &str| name.is_empty() || name == ".";
        return !empty(pattern) && !empty(&host) && pattern.eq_ignore_ascii_case(&host);
    }
    let pattern = pattern.to_ascii_lowercase();
    let (patterns, parts) = (pattern.split('.'), bare.split('.'));
    patterns.clone().count() == parts.clone().count()
        && patterns
            .zip(parts)
            .enumerate()
            .all(|(index, (pattern, part))| pattern == part || (index == 0 && pattern == "*"))
}

fn valid_host(host: &str, pattern: bool) -> bool {
    if host.is_empty() || host == "*" {
        return false;
    }
    host.split('.').enumerate().all(|(index, label)| {
        let plain = |(at, c): (usize, char)| c.is_ascii_alphanumeric() || c == '_' || (c == '-' && at != 0);
        !label.is_empty() && ((pattern && index == 0 && label == "*") || label.char_indices().all(plain))
    })
}

/// Go's `domainNameValid`: no trailing dot, no empty labels and no spaces.
pub(super) fn valid_domain(name: &str, constraint: bool) -> bool {
    if name.is_empty() {
        return true;
    }
    let name = if constraint { name.strip_prefix('.').unwrap_or(name) } else { name };
    name.split('.').all(|label| !label.is_empty() && label.bytes().all(|byte| (33..=126).contains(&byte)))
}

/// Go's `dnsHasSuffix`: whether the constraint is the name or one of its parents. A leading dot excludes the
/// parent itself; an empty constraint matches every name.
fn has_suffix(constraint: &str, name: &str) -> bool {
    let (constraint, name) = (constraint.as_bytes(), name.as_bytes());
    if constraint.len() > name.len() {
        return false;
    }
    let (head, tail) = name.split_at(name.len() - constraint.len());
    tail.eq_ignore_ascii_case(constraint)
        && (constraint.is_empty() || constraint[0] == b'.' || head.is_empty() || head.ends_with(b"."))
}

fn first_label_off(name: &str) -> &str {
    name.find('.').map_or("", |at| &name[at..])
}

/// The host of a URI if it is a name; URI constraints do not apply to addresses.
fn uri_host(uri: &str) -> Option<String> {
    let authority = uri.split_once("://")?.1;
    let authority = authority.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    if host.starts_with('[') {
        return None;
    }
    let host = host.split(':').next()?.to_ascii_lowercase();
    (!host.is_empty() && host.parse::<IpAddr>().is_err() && valid_domain(&host, false)).then_some(host)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn same_address(bytes: &[u8], wanted: IpAddr) -> bool {
    address(bytes).is_some_and(|found| found.to_canonical() == wanted.to_canonical())
}

/// Whether the network (address and mask) contains the address of the same family.
fn contains(network: &[u8], ip: &[u8]) -> bool {
    let (base, mask) = network.split_at(network.len() / 2);
    base.len() == ip.len() && base.iter().zip(mask).zip(ip).all(|((base, mask), ip)| base & mask == ip & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_host_names_and_wildcards() {
        let fits = |pattern: &str, host: &str| matches_name(pattern, host);
        assert!(fits("api.example.com", "API.example.com"));
        assert!(fits("api.example.com", "api.example.com."));
        assert!(fits("*.example.com", "api.example.com"));
        assert!(!fits("*.example.com", "a.b.example.com"));
        assert!(!fits("*.example.com", "example.com"));
        assert!(!fits("a*.example.com", "api.example.com"));
        assert!(!fits("api.*.com", "api.example.com"));
        assert!(!fits("*", "localhost"));
        assert!(!fits("", ""));
        // Invalid host names match only exactly.
        assert!(fits("a b", "a b"));
    }

    #[test]
    fn addresses_match_addresses_only() {
        let by_name = Names { dns: vec!["10.0.0.1"], ..Names::default() };
        let by_address = Names { ips: vec![&[10, 0, 0, 1]], ..Names::default() };
        let host = Host::parse("10.0.0.1");
        assert!(!by_name.speak_for(&host));
        assert!(by_address.speak_for(&host));
        assert!(by_address.speak_for(&Host::parse("::ffff:10.0.0.1")));
        assert!(!by_address.speak_for(&Host::parse("10.0.0.2")));
    }

    #[test]
    fn compares_domain_suffixes() {
        assert!(has_suffix("example.com", "example.com"));
        assert!(has_suffix("example.com", "a.EXAMPLE.com"));
        assert!(!has_suffix("example.com", "badexample.com"));
        assert!(!has_suffix(".example.com", "example.com"));
        assert!(has_suffix(".example.com", "a.example.com"));
        assert!(has_suffix("", "anything"));
    }

    #[test]
    fn applies_name_constraints() {
        let permitted = Subtrees {
            dns: vec!["example.com"],
            ips: vec![&[10, 0, 0, 0, 255, 0, 0, 0]],
            ..Subtrees::default()
        };
        let excluded = Subtrees { dns: vec!["x.example.com"], ..Subtrees::default() };
        let rules = Constraints { permitted, excluded };
        let dns = |name| rules.refuse(&Names { dns: vec![name], ..Names::default() });
        assert_eq!(dns("api.example.com"), None);
        assert!(dns("api.example.org").is_some());
        assert!(dns("x.example.com").is_some());
        assert!(dns("*.example.com").is_some(), "a wildcard covers the excluded name");
        let ip = |bytes| rules.refuse(&Names { ips: vec![bytes], ..Names::default() });
        assert_eq!(ip(&[10, 1, 2, 3]), None);
        assert!(ip(&[11, 1, 2, 3]).is_some());
        assert!(ip(&[0; 16]).is_some(), "only IPv4 is permitted");
        let uri = |text| rules.refuse(&Names { uris: vec![text], ..Names::default() });
        assert_eq!(uri("spiffe://cluster.local/ns"), None);
        assert!(uri("urn:x").is_some(), "no host to compare");
    }
}
