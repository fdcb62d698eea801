//! Defaults that the server fills in, and content that it refuses.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::answer::{Outcome, Refusal};
use super::controllers::TOKEN_TYPE;
use super::store::{Kind, RBAC, random, text};

/// Fills in what the server defaults.
pub(crate) fn complete(kind: &Kind, namespace: &str, object: &mut Value) {
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    if kind.namespaced {
        object["metadata"]["namespace"] = namespace.into();
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    let name = text(object, "/metadata/name").to_owned();
    match (kind.group, kind.plural) {
        ("", "namespaces") => {
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
            if !object["spec"].is_object() {
                object["spec"] = json!({"finalizers": ["kubernetes"]});
            }
            if !object["status"]["phase"].is_string() {
                object["status"] = json!({"phase": "Active"});
            }
        }
        ("", "secrets") => {
            if object["type"].is_null() {
                object["type"] = "Opaque".into();
            }
            let plain = object.as_object_mut().and_then(|map| map.remove("stringData"));
            for (key, value) in plain.as_ref().and_then(Value::as_object).into_iter().flatten() {
                object["data"][key] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
            }
        }
        ("", "pods") if !object["status"].is_object() => object["status"] = json!({"phase": "Pending"}),
        (RBAC, "rolebindings" | "clusterrolebindings") => {
            for subject in object["subjects"].as_array_mut().into_iter().flatten() {
                if subject["kind"] != "ServiceAccount" && text(subject, "/apiGroup").is_empty() {
                    subject["apiGroup"] = RBAC.into();
                }
            }
            if text(object, "/roleRef/apiGroup").is_empty() {
                object["roleRef"]["apiGroup"] = RBAC.into();
            }
        }
        (RBAC, _) if object["rules"].is_null() => object["rules"] = json!([]),
        _ => {}
    }
}

/// Gives an object without a name one, if it asks for that.
pub(crate) fn generate_name(object: &mut Value) {
    let prefix = text(object, "/metadata/generateName").to_owned();
    if text(object, "/metadata/name").is_empty() && !prefix.is_empty() {
        let alphabet = b"bcdfghjklmnpqrstvwxz2456789";
        let suffix: String = random::<5>()
            .iter()
            .map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()]))
            .collect();
        object["metadata"]["name"] = format!("{prefix}{suffix}").into();
    }
}

fn is_label_name(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_dns_label(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label_name(name),
        None => is_label_name(key),
    }
}

/// Refuses names, labels and annotations that no server accepts, and a few contents of its kind.
pub(crate) fn check(kind: &Kind, object: &Value) -> Outcome<()> {
    let name = text(object, "/metadata/name");
    let invalid = |field: &str, problem: &str| Err(Refusal::invalid(kind, name, field, problem));
    if name.is_empty() {
        return invalid("metadata.name", "Required value: name or generateName is required");
    }
    if kind.group == RBAC {
        if name == "." || name == ".." || name.contains(['/', '%']) {
            return invalid(
                "metadata.name",
                &format!("Invalid value: \"{name}\": may not contain '/' or '%'"),
            );
        }
    } else if matches!(kind.plural, "namespaces" | "services") {
        if name.len() > 63 {
            return invalid(
                "metadata.name",
                &format!("Invalid value: \"{name}\": must be no more than 63 characters"),
            );
        }
        if !is_dns_label(name) {
            let problem = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
                           '-', and must start and end with an alphanumeric character";
            return invalid("metadata.name", &format!("Invalid value: \"{name}\": {problem}"));
        }
    } else if !is_subdomain(name) {
        let problem = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
                       or '.', and must start and end with an alphanumeric character";
        return invalid("metadata.name", &format!("Invalid value: \"{name}\": {problem}"));
    }
    for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        let shown = value.as_str().unwrap_or_default();
        if !is_qualified(key) {
            return invalid("metadata.labels", &format!("Invalid value: \"{key}\": not a qualified name"));
        }
        if shown.len() > 63 {
            let problem = format!("Invalid value: \"{shown}\": must be no more than 63 bytes");
            return invalid("metadata.labels", &problem);
        }
        if !shown.is_empty() && !is_label_name(shown) {
            let problem = "a valid label must be an empty string or consist of alphanumeric characters, '-', \
                           '_' or '.', and must start and end with an alphanumeric character";
            return invalid("metadata.labels", &format!("Invalid value: \"{shown}\": {problem}"));
        }
    }
    for (key, value) in object["metadata"]["annotations"].as_object().into_iter().flatten() {
        if !is_qualified(&key.to_lowercase()) {
            return invalid(
                "metadata.annotations",
                &format!("Invalid value: \"{key}\": not a qualified name"),
            );
        }
        if !value.is_string() {
            return Err(Refusal::bad_request(format!("annotation {key} is not a string")));
        }
    }
    for (index, rule) in object["rules"].as_array().into_iter().flatten().enumerate() {
        if kind.group == RBAC && rule["verbs"].as_array().is_none_or(Vec::is_empty) {
            let problem = "Required value: verbs must contain at least one value";
            return invalid(&format!("rules[{index}].verbs"), problem);
        }
    }
    let account = &object["metadata"]["annotations"]["kubernetes.io/service-account.name"];
    if kind.plural == "secrets" && object["type"] == TOKEN_TYPE && account.as_str().is_none_or(str::is_empty)
    {
        return invalid("metadata.annotations[kubernetes.io/service-account.name]", "Required value");
    }
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        if kind.plural == "secrets" && value.as_str().is_none_or(|text| STANDARD.decode(text).is_err()) {
            return Err(Refusal::bad_request(format!(
                "Secret in version \"v1\" cannot be handled: data.{key}: illegal base64 data"
            )));
        }
    }
    Ok(())
}

/// Refuses changes to what never changes.
pub(crate) fn check_change(kind: &Kind, old: &Value, new: &Value) -> Outcome<()> {
    let name = text(old, "/metadata/name");
    if kind.plural.ends_with("bindings") && old["roleRef"] != new["roleRef"] {
        let problem = format!("Invalid value: {}: cannot change roleRef", new["roleRef"]);
        return Err(Refusal::invalid(kind, name, "roleRef", &problem));
    }
    if kind.plural == "secrets" && old["type"] != new["type"] {
        let problem = format!("Invalid value: {}: field is immutable", new["type"]);
        return Err(Refusal::invalid(kind, name, "type", &problem));
    }
    Ok(())
}
