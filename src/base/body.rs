//! Bodies of requests and responses for `-vv` and `--log-file`, with secrets masked by their place.
//!
//! What is shown passes [`crate::base::message`] as well, which masks secrets by their form.

use serde_json::Value;

const MASK: &str = "[masked]";
/// Parts of names whose text is a secret in some API of Kubernetes or GitLab. `value` is a CI/CD variable's.
const SECRET_NAMES: &[&str] = &["token", "password", "secret", "private", "credential", "authorization"];

/// The body as one line of JSON; only its size if it is not JSON. Empty for an empty one.
pub fn shown(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return String::new();
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(mut value) => {
            mask(&mut value);
            value.to_string()
        }
        Err(_) => format!("({} bytes that are not JSON)", bytes.len()),
    }
}

fn mask(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(fields) => {
            // Only the objects of a list have no kind of their own.
            let is_public = fields.get("kind").is_some_and(|kind| kind == "ConfigMap");
            for (name, field) in fields.iter_mut() {
                let lower = name.to_lowercase();
                let holds = matches!(name.as_str(), "data" | "stringData" | "binaryData") && !is_public;
                let named = SECRET_NAMES.iter().any(|part| lower.contains(part))
                    || lower == "value"
                    || lower.ends_with("last-applied-configuration");
                match field {
                    Value::Object(entries) if holds => {
                        entries.values_mut().for_each(|entry| *entry = MASK.into());
                    }
                    Value::String(text) if named && !text.is_empty() => MASK.clone_into(text),
                    Value::Array(items) if named => items.iter_mut().for_each(|item| match item {
                        Value::String(text) => MASK.clone_into(text),
                        other => mask(other),
                    }),
                    other => mask(other),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn secrets_are_masked_by_their_place() {
        for (body, expected) in [
            (r#"{"kind":"Secret","data":{"a":"c2Vj"}}"#, r#"{"data":{"a":"[masked]"},"kind":"Secret"}"#),
            (r#"{"items":[{"stringData":{"a":"x"}}]}"#, r#"{"items":[{"stringData":{"a":"[masked]"}}]}"#),
            (r#"{"kind":"ConfigMap","data":{"a":"x"}}"#, r#"{"data":{"a":"x"},"kind":"ConfigMap"}"#),
            (r#"{"status":{"token":"abc"}}"#, r#"{"status":{"token":"[masked]"}}"#),
            (r#"{"id":7,"runners_token":"abc"}"#, r#"{"id":7,"runners_token":"[masked]"}"#),
            (r#"{"token_expires_at":null}"#, r#"{"token_expires_at":null}"#),
            (r#"[{"key":"A","value":"abc"}]"#, r#"[{"key":"A","value":"[masked]"}]"#),
            (
                r#"{"spec":{"automountServiceAccountToken":false}}"#,
                r#"{"spec":{"automountServiceAccountToken":false}}"#,
            ),
            (
                r#"{"secrets":[{"name":"a"}],"tokens":["abc"]}"#,
                r#"{"secrets":[{"name":"a"}],"tokens":["[masked]"]}"#,
            ),
            ("", ""),
            ("a job's log", "(11 bytes that are not JSON)"),
        ] {
            assert_eq!(shown(body.as_bytes()), expected);
        }
    }
}
