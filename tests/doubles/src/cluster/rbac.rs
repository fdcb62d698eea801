//! Who may do what: the RBAC authorizer and the check against escalation.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{Outcome, Refusal};
use super::store::{Key, Kind, RBAC, State, known, text};
use super::tokens::Identity;

/// A policy rule.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "nonResourceURLs")]
    pub(crate) non_resource_urls: Vec<String>,
}

/// What somebody wants to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    /// With the subresource, if any: `pods/exec`.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Instead of a resource.
    pub(crate) path: Option<String>,
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn has_resource(list: &[String], wanted: &str) -> bool {
    let any = wanted.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    has(list, wanted) || any.is_some_and(|any| list.contains(&any))
}

fn has_url(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item.strip_suffix('*').map_or(item == wanted, |start| wanted.starts_with(start)))
}

impl Rule {
    fn allows(&self, wish: &Attributes) -> bool {
        has(&self.verbs, &wish.verb)
            && match &wish.path {
                Some(path) => has_url(&self.non_resource_urls, path),
                None => {
                    has(&self.api_groups, &wish.group)
                        && has_resource(&self.resources, &wish.resource)
                        && (self.resource_names.is_empty() || self.resource_names.contains(&wish.name))
                }
            }
    }

    /// The rule cut into the smallest rules that say the same.
    fn atoms(&self) -> Vec<Self> {
        let mut atoms = Vec::new();
        for verb in &self.verbs {
            let verbs = vec![verb.clone()];
            for url in &self.non_resource_urls {
                let non_resource_urls = vec![url.clone()];
                atoms.push(Self { verbs: verbs.clone(), non_resource_urls, ..Self::default() });
            }
            for group in &self.api_groups {
                for resource in &self.resources {
                    let atom = Self {
                        verbs: verbs.clone(),
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        atoms.push(atom.clone());
                    }
                    for name in &self.resource_names {
                        atoms.push(Self { resource_names: vec![name.clone()], ..atom.clone() });
                    }
                }
            }
        }
        atoms
    }

    /// Whether this rule grants all that an atom does.
    fn covers(&self, atom: &Self) -> bool {
        let names = self.resource_names.is_empty()
            || (!atom.resource_names.is_empty()
                && atom.resource_names.iter().all(|name| self.resource_names.contains(name)));
        atom.verbs.iter().all(|verb| has(&self.verbs, verb))
            && atom.api_groups.iter().all(|group| has(&self.api_groups, group))
            && atom.resources.iter().all(|resource| has_resource(&self.resources, resource))
            && atom.non_resource_urls.iter().all(|url| has_url(&self.non_resource_urls, url))
            && names
    }

    fn compact(&self) -> String {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let shown: Vec<String> = parts
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name}:{}", quoted(list)))
            .collect();
        format!("{{{}}}", shown.join(", "))
    }
}

fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(" "))
}

/// The rules in an object's `rules`.
pub(crate) fn rules_in(object: &Value) -> Vec<Rule> {
    Vec::<Rule>::deserialize(&object["rules"]).unwrap_or_default()
}

fn is_subject(subject: &Value, namespace: &str, who: &Identity) -> bool {
    let name = text(subject, "/name");
    match text(subject, "/kind") {
        "User" => who.name == name,
        "Group" => who.groups.iter().any(|group| group == name),
        "ServiceAccount" => {
            let own = text(subject, "/namespace");
            let home = if own.is_empty() { namespace } else { own };
            who.name == format!("system:serviceaccount:{home}:{name}")
        }
        _ => false,
    }
}

impl State {
    /// The role that a binding names.
    fn role_of(&self, binding: &Value, namespace: &str) -> Option<&Value> {
        let name = text(binding, "/roleRef/name");
        match text(binding, "/roleRef/kind") {
            "Role" => self.get(known(RBAC, "roles"), namespace, name),
            _ => self.get(known(RBAC, "clusterroles"), "", name),
        }
    }

    /// Every rule that holds for somebody in a namespace (or cluster-wide, if that is empty), with what
    /// grants it.
    pub(crate) fn rules_for(&self, who: &Identity, namespace: &str) -> Vec<(Rule, String)> {
        let mut rules = Vec::new();
        let bindings = self.objects.iter().filter(|(Key { kind, namespace: home, .. }, _)| {
            kind.is_rbac(&["clusterrolebindings"])
                || (kind.is_rbac(&["rolebindings"]) && !namespace.is_empty() && home == namespace)
        });
        for (key, binding) in bindings {
            let subjects = binding["subjects"].as_array();
            let Some(subject) = subjects.into_iter().flatten().find(|s| is_subject(s, &key.namespace, who))
            else {
                continue;
            };
            let Some(role) = self.role_of(binding, &key.namespace) else { continue };
            let home = if key.namespace.is_empty() {
                key.name.clone()
            } else {
                format!("{}/{}", key.name, key.namespace)
            };
            let source = format!(
                "RBAC: allowed by {} \"{home}\" of {} \"{}\" to {} \"{}\"",
                key.kind.kind,
                text(binding, "/roleRef/kind"),
                text(binding, "/roleRef/name"),
                text(subject, "/kind"),
                text(subject, "/name"),
            );
            rules.extend(rules_in(role).into_iter().map(|rule| (rule, source.clone())));
        }
        rules
    }

    /// Why somebody may do something; nothing if he may not.
    pub(crate) fn permission(&self, who: &Identity, wish: &Attributes) -> Option<String> {
        if who.is_master() {
            return Some(String::new());
        }
        let rules = self.rules_for(who, &wish.namespace);
        rules.into_iter().find(|(rule, _)| rule.allows(wish)).map(|(_, source)| source)
    }

    /// Refuses what somebody may not do.
    pub(crate) fn authorize(&self, who: &Identity, wish: &Attributes) -> Outcome<()> {
        if self.permission(who, wish).is_some() {
            return Ok(());
        }
        if let Some(path) = &wish.path {
            let message = format!("forbidden: User \"{}\" cannot {} path \"{path}\"", who.name, wish.verb);
            return Err(Refusal::plain(403, "Forbidden", message));
        }
        let place = if wish.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", wish.namespace)
        };
        let why = format!(
            "User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
            who.name, wish.verb, wish.resource, wish.group
        );
        let plural = wish.resource.split('/').next().unwrap_or_default();
        if let Some(kind) = super::store::kind_of(&wish.group, plural) {
            return Err(Refusal::forbidden(kind, &wish.name, &why));
        }
        let what = if wish.group.is_empty() { plural.to_owned() } else { format!("{plural}.{}", wish.group) };
        let named = if wish.name.is_empty() { what } else { format!("{what} \"{}\"", wish.name) };
        Err(Refusal::plain(403, "Forbidden", format!("{named} is forbidden: {why}")))
    }

    /// Refuses a role or binding that grants more than its writer holds.
    pub(crate) fn check_escalation(
        &self,
        who: &Identity,
        kind: &'static Kind,
        namespace: &str,
        object: &Value,
    ) -> Outcome<()> {
        if who.is_master() || kind.group != RBAC {
            return Ok(());
        }
        let name = text(object, "/metadata/name");
        let (verb, resource, about, rules) = if kind.plural.ends_with("bindings") {
            let role_kind =
                known(RBAC, if object["roleRef"]["kind"] == "Role" { "roles" } else { "clusterroles" });
            let role_name = text(object, "/roleRef/name");
            let rules = self
                .role_of(object, namespace)
                .map(rules_in)
                .ok_or_else(|| Refusal::not_found(role_kind, role_name));
            ("bind", role_kind.plural, role_name, rules)
        } else {
            ("escalate", kind.plural, name, Ok(rules_in(object)))
        };
        let wish = Attributes {
            verb: verb.to_owned(),
            group: RBAC.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: about.to_owned(),
            path: None,
        };
        if self.permission(who, &wish).is_some() {
            return Ok(());
        }
        let missing = self.missing(who, namespace, &rules?);
        if missing.is_empty() {
            return Ok(());
        }
        let why = format!(
            "user \"{}\" (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            who.name,
            quoted(&who.groups),
            missing.join("\n")
        );
        Err(Refusal::forbidden(kind, name, &why))
    }

    /// The rules that somebody does not hold, one line for each resource.
    fn missing(&self, who: &Identity, namespace: &str, wanted: &[Rule]) -> Vec<String> {
        let held = self.rules_for(who, namespace);
        let mut missing: Vec<Rule> = Vec::new();
        for atom in wanted.iter().flat_map(Rule::atoms) {
            if held.iter().any(|(rule, _)| rule.covers(&atom)) {
                continue;
            }
            let same = missing.iter_mut().find(|rule| {
                let other = Rule { verbs: atom.verbs.clone(), ..(*rule).clone() };
                other == atom && atom.resource_names.is_empty() && atom.non_resource_urls.is_empty()
            });
            match same {
                Some(rule) if !rule.verbs.contains(&atom.verbs[0]) => rule.verbs.extend(atom.verbs),
                Some(_) => {}
                None => missing.push(atom),
            }
        }
        let lines: BTreeSet<String> = missing.iter().map(Rule::compact).collect();
        lines.into_iter().collect()
    }
}
