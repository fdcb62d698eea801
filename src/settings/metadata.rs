//! Labels and annotations for namespaces, `KEY=VALUE`, by the rules of `apimachinery/pkg/api/validate/content`
//! (qualified name, label value).

use super::check;

/// Kubernetes' limit in bytes for all annotations of an object.
const ANNOTATIONS: usize = 256 * 1024;
/// Keys that outrigger sets or recognises its objects by.
const OURS: &[&str] = &[
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/component",
];

/// Parses a label; the value may be empty.
pub fn label(pair: &str) -> Result<(String, String), String> {
    let (key, value) = split(pair)?;
    if !value.is_empty() && !is_name(value) {
        return Err("has an invalid label value: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends".to_owned());
    }
    Ok((key, value.to_owned()))
}

/// Parses an annotation; the value may be empty.
pub fn annotation(pair: &str) -> Result<(String, String), String> {
    let (key, value) = split(pair)?;
    if pair.len() > ANNOTATIONS {
        return Err("exceeds the limit of 256 KiB for an object's annotations".to_owned());
    }
    Ok((key, value.to_owned()))
}

fn split(pair: &str) -> Result<(String, &str), String> {
    check::text(pair)?;
    let (key, value) = pair.split_once('=').ok_or("is not KEY=VALUE")?;
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if !is_name(name) || prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        return Err("has an invalid key: at most 63 letters, digits, '-', '_' and '.', after an optional DNS name and '/'".to_owned());
    }
    if prefix == Some("pod-security.kubernetes.io") {
        return Err("is set by outrigger: use --pod-security LEVEL".to_owned());
    }
    if OURS.contains(&key) || prefix == Some("outrigger.dev") || key == "kubernetes.io/metadata.name" {
        return Err("has a key that outrigger or the cluster sets".to_owned());
    }
    Ok((key.to_owned(), value))
}

fn is_name(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_subdomain(prefix: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().copied().is_some_and(lower)
            && bytes.last().copied().is_some_and(lower)
            && bytes.iter().all(|byte| lower(*byte) || *byte == b'-')
    };
    prefix.len() <= 253 && prefix.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::{annotation, label};

    #[test]
    fn accepts_labels_and_annotations_by_the_rules_of_kubernetes() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(label("owner=platform"), pair("owner", "platform"));
        assert_eq!(label("example.com/cost-center=42"), pair("example.com/cost-center", "42"));
        assert_eq!(label("empty="), pair("empty", ""));
        assert_eq!(
            annotation("scheduler.alpha.kubernetes.io/node-selector=pool=ci, zone=a"),
            pair("scheduler.alpha.kubernetes.io/node-selector", "pool=ci, zone=a")
        );
        for bad in [
            "",
            "owner",
            "=x",
            "-a=x",
            "a b=x",
            "a/b/c=x",
            "A.com/x=1",
            "/x=1",
            "x/=1",
            "owner=a b",
            "owner=-a",
            "owner=é",
            &format!("{}=x", "k".repeat(64)),
            &format!("k={}", "v".repeat(64)),
            "app.kubernetes.io/managed-by=helm",
            "outrigger.dev/id=x",
            "kubernetes.io/metadata.name=x",
            "pod-security.kubernetes.io/enforce=privileged",
        ] {
            assert!(label(bad).is_err(), "{bad:?}");
        }
        for bad in ["note", "=x", "note=a\nb", "outrigger.dev/id=x"] {
            assert!(annotation(bad).is_err(), "{bad:?}");
        }
        assert!(
            label("pod-security.kubernetes.io/enforce=x").is_err_and(|why| why.contains("--pod-security"))
        );
    }
}
