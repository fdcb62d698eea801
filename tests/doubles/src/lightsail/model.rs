//! The service's model, which judges requests and the stand-in's own answers.
//!
//! `model.json` is an extract of the model that botocore ships (Apache-2.0; source and version are in the file);
//! `tests/real/clients/python/lightsail_model.py` makes it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// The model, read once.
pub(crate) static MODEL: LazyLock<Model> = LazyLock::new(Model::read);

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It cannot be read: another type, or a member that the shape does not have.
    Form(String),
    /// It can be read, and is not allowed: missing member, enum, pattern, range.
    Value(String),
}

impl Problem {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Form(text) | Self::Value(text) => text,
        }
    }
}

pub(crate) struct Model {
    document: Value,
    patterns: BTreeMap<String, Regex>,
}

/// Members of answers that the real service fills with what their declared pattern does not allow: names of
/// blueprints have spaces.
const OWN_ANSWERS: &[(&str, &str)] = &[("Blueprint", "name")];

impl Model {
    fn read() -> Self {
        let document: Value = serde_json::from_str(include_str!("model.json")).expect("model.json is JSON");
        let shapes = document["shapes"].as_object().expect("a model has shapes");
        let patterns = shapes.iter().filter_map(|(name, shape)| {
            // The service looks at the whole value, whether the pattern has anchors or not.
            let pattern = shape["pattern"].as_str()?;
            Some((name.clone(), Regex::new(&format!(r"\A(?s:{pattern})\z")).expect("a pattern is a regex")))
        });
        let patterns = patterns.collect();
        Self { document, patterns }
    }

    /// Every operation that the model has.
    pub(crate) fn operations(&self) -> impl Iterator<Item = &str> {
        self.document["operations"].as_object().expect("a model has operations").keys().map(String::as_str)
    }

    /// The prefix of `X-Amz-Target`, with its dot.
    pub(crate) fn target_prefix(&self) -> String {
        format!("{}.", self.document["metadata"]["targetPrefix"].as_str().unwrap_or_default())
    }

    /// Judges a request's body.
    pub(crate) fn request(&self, operation: &str, body: &Value) -> Result<(), Problem> {
        self.judge(self.shape_of(operation, "input"), body, "", true)
    }

    /// Judges an answer's body.
    pub(crate) fn answer(&self, operation: &str, body: &Value) -> Result<(), Problem> {
        self.judge(self.shape_of(operation, "output"), body, "", true)
    }

    /// Whether a text is a name of a resource: some members that are names are declared as plain texts.
    pub(crate) fn is_name(&self, text: &str) -> bool {
        self.patterns["ResourceName"].is_match(text)
    }

    /// Whether an error is one that the service declares.
    pub(crate) fn declares(&self, error: &str) -> bool {
        self.document["shapes"][error]["exception"] == true
    }

    fn shape_of(&self, operation: &str, side: &str) -> &str {
        self.document["operations"][operation][side].as_str().expect("the operation is in the model")
    }

    fn judge(&self, name: &str, value: &Value, at: &str, patterns: bool) -> Result<(), Problem> {
        let shape = &self.document["shapes"][name];
        let kind = shape["type"].as_str().expect("the shape is in the model");
        let wrong = || Problem::Form(format!("{}: expected a {kind}", place(at)));
        match kind {
            "structure" => self.structure(name, value.as_object().ok_or_else(wrong)?, at),
            "list" => {
                let member = shape["member"]["shape"].as_str().expect("a list has a shape of members");
                let list = value.as_array().ok_or_else(wrong)?;
                within(shape, list.len() as u64, at)?;
                list.iter()
                    .enumerate()
                    .try_for_each(|(index, value)| self.judge(member, value, &format!("{at}[{index}]"), true))
            }
            "string" => {
                let text = value.as_str().ok_or_else(wrong)?;
                within(shape, text.chars().count() as u64, at)?;
                if let Some(words) = shape["enum"].as_array().filter(|words| !words.contains(value)) {
                    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                    let text = format!("{}: '{text}' is none of [{}]", place(at), words.join(", "));
                    return Err(Problem::Value(text));
                }
                match self.patterns.get(name).filter(|pattern| patterns && !pattern.is_match(text)) {
                    Some(_) => {
                        let pattern = shape["pattern"].as_str().unwrap_or_default();
                        Err(Problem::Value(format!("{}: '{text}' does not match {pattern}", place(at))))
                    }
                    None => Ok(()),
                }
            }
            "integer" | "long" => {
                let number = value.as_i64().ok_or_else(wrong)?;
                let (min, max) = (shape["min"].as_i64(), shape["max"].as_i64());
                if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
                    return Err(Problem::Value(format!("{}: {number} is out of range", place(at))));
                }
                Ok(())
            }
            "float" | "double" | "timestamp" => value.as_f64().map(|_| ()).ok_or_else(wrong),
            "boolean" => value.as_bool().map(|_| ()).ok_or_else(wrong),
            other => panic!("{name} is a {other}, which is not judged yet"),
        }
    }

    fn structure(&self, name: &str, value: &serde_json::Map<String, Value>, at: &str) -> Result<(), Problem> {
        let shape = &self.document["shapes"][name];
        let members = shape["members"].as_object().expect("a structure has members");
        for (member, value) in value {
            let at = if at.is_empty() { member.clone() } else { format!("{at}.{member}") };
            let Some(known) = members.get(member) else {
                return Err(Problem::Form(format!("{at}: {name} has no such member")));
            };
            let known = known["shape"].as_str().expect("a member has a shape");
            self.judge(known, value, &at, !OWN_ANSWERS.contains(&(name, member)))?;
        }
        let required = shape["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        match required.into_iter().find(|member| !value.contains_key(*member)) {
            Some(member) => Err(Problem::Value(format!("{}: {member} is missing", place(at)))),
            None => Ok(()),
        }
    }
}

fn place(at: &str) -> &str {
    if at.is_empty() { "body" } else { at }
}

/// Lengths of texts and lists.
fn within(shape: &Value, length: u64, at: &str) -> Result<(), Problem> {
    let (min, max) = (shape["min"].as_u64(), shape["max"].as_u64());
    if min.is_some_and(|min| length < min) || max.is_some_and(|max| length > max) {
        return Err(Problem::Value(format!("{}: its length of {length} is out of range", place(at))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn form(text: &str) -> Result<(), Problem> {
        Err(Problem::Form(text.to_owned()))
    }

    fn value(text: &str) -> Result<(), Problem> {
        Err(Problem::Value(text.to_owned()))
    }

    #[test]
    fn a_request_is_judged_by_member_type_enum_pattern_and_range() {
        let judge = |operation: &str, body: Value| MODEL.request(operation, &body);
        let close = |port: Value| json!({"instanceName": "vm", "portInfo": port});
        assert_eq!(judge("GetInstance", json!({"instanceName": "vm"})), Ok(()));
        assert_eq!(judge("GetInstance", json!([])), form("body: expected a structure"));
        assert_eq!(judge("GetInstance", json!({})), value("body: instanceName is missing"));
        assert_eq!(judge("GetInstance", json!({"instanceName": 1})), form("instanceName: expected a string"));
        assert_eq!(
            judge("GetInstance", json!({"instanceName": "vm", "name": ""})),
            form("name: GetInstanceRequest has no such member")
        );
        assert_eq!(
            judge("GetInstance", json!({"instanceName": "v"})),
            value(r"instanceName: 'v' does not match \w[\w\-]*\w")
        );
        // A pattern is for the whole value.
        assert!(judge("GetInstance", json!({"instanceName": "vm\nvm"})).is_err());
        let protocol = json!({"instanceName": "vm", "protocol": "telnet"});
        assert_eq!(
            judge("GetInstanceAccessDetails", protocol),
            value("protocol: 'telnet' is none of [ssh, rdp]")
        );
        assert_eq!(
            judge("CloseInstancePublicPorts", close(json!({"fromPort": -1, "toPort": 65535}))),
            Ok(())
        );
        assert_eq!(
            judge("CloseInstancePublicPorts", close(json!({"toPort": 65536}))),
            value("portInfo.toPort: 65536 is out of range")
        );
        assert_eq!(
            judge("CloseInstancePublicPorts", close(json!({"toPort": 22.5}))),
            form("portInfo.toPort: expected a integer")
        );
        assert_eq!(
            judge("CloseInstancePublicPorts", close(json!({"cidrs": ["a", 1]}))),
            form("portInfo.cidrs[1]: expected a string")
        );
        assert_eq!(
            judge("DeleteInstance", json!({"instanceName": "vm", "forceDeleteAddOns": "yes"})),
            form("forceDeleteAddOns: expected a boolean")
        );
    }

    #[test]
    fn an_answer_is_judged_but_for_what_the_service_itself_exceeds() {
        let named = |name: &str| json!({"blueprints": [{"name": name}]});
        assert_eq!(MODEL.answer("GetBlueprints", &named("Amazon Linux 2023")), Ok(()));
        let instance = json!({"instance": {"name": "a b"}});
        assert!(MODEL.answer("GetInstance", &instance).is_err());
        assert!(MODEL.answer("GetInstance", &json!({"instance": {"createdAt": "2026"}})).is_err());
        assert!(MODEL.answer("GetInstance", &json!({"instance": {"createdAt": 1.5}})).is_ok());
    }
}
