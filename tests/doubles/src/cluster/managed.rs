//! Who owns which field: `managedFields`, kept per leaf; lists are leaves.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::store::{Kind, now, text};

/// A field: the keys that lead to it.
pub(crate) type Path = Vec<String>;

const SYSTEM: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "generateName",
    "selfLink",
];

/// The fields of an object that somebody can own.
pub(crate) fn leaves(object: &Value) -> BTreeSet<Path> {
    let mut found = BTreeSet::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "apiVersion" | "kind") {
            walk(&mut vec![key.clone()], value, &mut found);
        }
    }
    found.retain(|path| {
        path.first().is_none_or(|root| root != "metadata") || {
            path.get(1).is_some_and(|field| !SYSTEM.contains(&field.as_str()))
        }
    });
    found
}

fn walk(path: &mut Path, value: &Value, found: &mut BTreeSet<Path>) {
    match value {
        Value::Null => {}
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                path.push(key.clone());
                walk(path, inner, found);
                path.pop();
            }
        }
        _ => {
            found.insert(path.clone());
        }
    }
}

/// The value at a path.
pub(crate) fn lookup<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// Sets the value at a path, making the maps on the way.
pub(crate) fn set(object: &mut Value, path: &[String], value: Value) {
    let mut place = object;
    for key in path {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[key];
    }
    *place = value;
}

/// Removes a path and the maps that it leaves empty.
pub(crate) fn unset(object: &mut Value, path: &[String]) {
    let Some((key, rest)) = path.split_first() else { return };
    let Some(map) = object.as_object_mut() else { return };
    let Some(inner) = map.get_mut(key) else { return };
    if !rest.is_empty() {
        unset(inner, rest);
        if inner.as_object().is_none_or(|left| !left.is_empty()) {
            return;
        }
    }
    map.remove(key);
}

fn nested(paths: &BTreeSet<Path>, dots: bool) -> Value {
    let mut root = json!({});
    for path in paths {
        let mut place = &mut root;
        for key in path {
            let map = place.as_object_mut().expect("only maps are made here");
            if dots && !map.contains_key(".") && key_is_free(path, key) {
                map.insert(".".to_owned(), json!({}));
            }
            place = map.entry(format!("f:{key}")).or_insert_with(|| json!({}));
        }
    }
    root
}

/// Whether this key is the user's own in a map of free keys, such as a label's.
fn key_is_free(path: &Path, key: &str) -> bool {
    let parent = match path.as_slice() {
        [root, parent, last] if root == "metadata" && last == key => parent,
        [parent, last] if last == key => parent,
        _ => return false,
    };
    matches!(parent.as_str(), "labels" | "annotations" | "data")
}

fn flat(value: &Value, path: &mut Path, found: &mut BTreeSet<Path>) {
    let fields: Vec<(&str, &Value)> = value
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, inner)| Some((key.strip_prefix("f:")?, inner)))
        .collect();
    if fields.is_empty() && !path.is_empty() {
        found.insert(path.clone());
    }
    for (key, inner) in fields {
        path.push(key.to_owned());
        flat(inner, path, found);
        path.pop();
    }
}

/// One manager's share of an object.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) manager: String,
    pub(crate) operation: String,
    pub(crate) fields: BTreeSet<Path>,
    time: String,
}

impl Share {
    /// Whether it is of this manager and operation.
    pub(crate) fn is(&self, manager: &str, operation: &str) -> bool {
        self.manager == manager && self.operation == operation
    }
}

/// Everybody's shares.
pub(crate) fn shares(object: &Value) -> Vec<Share> {
    let entries = object["metadata"]["managedFields"].as_array();
    entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let mut fields = BTreeSet::new();
            flat(&entry["fieldsV1"], &mut Vec::new(), &mut fields);
            Share {
                manager: text(entry, "/manager").to_owned(),
                operation: text(entry, "/operation").to_owned(),
                time: text(entry, "/time").to_owned(),
                fields,
            }
        })
        .collect()
}

/// Writes everybody's shares back; empty ones fall away.
pub(crate) fn write_shares(object: &mut Value, shares: &[Share], kind: &Kind) {
    let entries: Vec<Value> = shares
        .iter()
        .filter(|share| !share.fields.is_empty())
        .map(|share| {
            json!({
                "manager": share.manager,
                "operation": share.operation,
                "apiVersion": kind.api_version(),
                "time": share.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": nested(&share.fields, share.operation == "Update"),
            })
        })
        .collect();
    object["metadata"]["managedFields"] = entries.into();
}

/// The share of a manager, made if there is none; its time becomes now if its fields change.
pub(crate) fn give(shares: &mut Vec<Share>, manager: &str, operation: &str, fields: BTreeSet<Path>) {
    if let Some(share) = shares.iter_mut().find(|share| share.is(manager, operation)) {
        if share.fields != fields {
            share.fields = fields;
            share.time = now();
        }
    } else {
        let (manager, operation) = (manager.to_owned(), operation.to_owned());
        shares.push(Share { manager, operation, fields, time: now() });
    }
}

/// Records a change that was no apply: what changed is the manager's now, and nobody else's.
pub(crate) fn record_update(before: &Value, after: &mut Value, manager: &str, kind: &Kind) {
    let mut all = shares(before);
    let present = leaves(after);
    let changed: BTreeSet<Path> =
        present.iter().filter(|path| lookup(before, path) != lookup(after, path)).cloned().collect();
    let mut own = BTreeSet::new();
    for share in &mut all {
        share.fields.retain(|path| present.contains(path));
        if share.is(manager, "Update") {
            own.clone_from(&share.fields);
        } else {
            share.fields.retain(|path| !changed.contains(path));
        }
    }
    own.extend(changed);
    if !own.is_empty() {
        give(&mut all, manager, "Update", own);
    }
    write_shares(after, &all, kind);
}

/// Two objects without what the server keeps about them.
pub(crate) fn same_content(left: &Value, right: &Value, ignore: &[&str]) -> bool {
    let strip = |object: &Value| {
        let mut copy = object.clone();
        if let Some(metadata) = copy["metadata"].as_object_mut() {
            metadata.retain(|key, _| !ignore.contains(&key.as_str()));
            prune(metadata);
        }
        if let Some(map) = copy.as_object_mut() {
            prune(map);
        }
        copy
    };
    strip(left) == strip(right)
}

/// Removes what says nothing: null, empty maps, empty lists.
fn prune(map: &mut Map<String, Value>) {
    map.retain(|_, value| match value {
        Value::Null => false,
        Value::Object(inner) => !inner.is_empty(),
        Value::Array(inner) => !inner.is_empty(),
        _ => true,
    });
}
