//! Patches: merge patches, JSON patches, and server-side apply.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::answer::{Answer, Outcome, Refusal};
use super::crud::{check_place, create, store_change};
use super::managed::{Path, Share, give, leaves, lookup, record_update, set, shares, unset, write_shares};
use super::rbac::Attributes;
use super::routes::Call;
use super::store::{RBAC, State, text};
use super::validate;

/// Changes an object by a patch.
pub(crate) fn patch(state: &mut State, call: &Call<'_>) -> Outcome {
    let content_type = call.request.content_type.split(';').next().unwrap_or_default().trim();
    match content_type {
        "application/apply-patch+yaml" => return apply(state, call),
        "application/merge-patch+json"
        | "application/strategic-merge-patch+json"
        | "application/json-patch+json" => {}
        other => {
            let message = format!(
                "the body of the request was in an unknown format ({other}) - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, \
                 application/strategic-merge-patch+json, application/apply-patch+yaml"
            );
            return Err(Refusal::plain(415, "UnsupportedMediaType", message));
        }
    }
    if !call.request.parameter("force").is_empty() {
        return Err(Refusal::plain(
            422,
            "Invalid",
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
        ));
    }
    let change = call.request.json()?;
    let Some(old) = state.get(call.kind, &call.namespace, &call.name).cloned() else {
        return Err(Refusal::not_found(call.kind, &call.name));
    };
    let mut new = old.clone();
    // What the patch itself says of these is a condition; what the object says is none.
    for field in ["uid", "resourceVersion"] {
        new["metadata"].as_object_mut().and_then(|metadata| metadata.remove(field));
    }
    if content_type == "application/json-patch+json" {
        json_patch(&mut new, &change)?;
    } else {
        merge(&mut new, &change);
    }
    check_place(call, &new)?;
    validate::complete(call.kind, &call.namespace, &mut new);
    record_update(&old, &mut new, &call.request.manager(), call.kind);
    Ok(Answer::json(200, &store_change(state, call, &old, new)?))
}

fn merge(target: &mut Value, change: &Value) {
    let Some(changes) = change.as_object() else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, value) in changes {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn json_patch(target: &mut Value, change: &Value) -> Outcome<()> {
    let refuse =
        |why: String| Refusal::plain(422, "Invalid", format!("the server rejected our request: {why}"));
    for step in change.as_array().into_iter().flatten() {
        let path = text(step, "/path");
        let (parent, last) =
            path.rsplit_once('/').ok_or_else(|| refuse(format!("{path} is not a JSON pointer")))?;
        let last = last.replace("~1", "/").replace("~0", "~");
        let found = target.pointer(path).cloned();
        let operation = text(step, "/op");
        if operation == "test" {
            if found.as_ref() != Some(&step["value"]) {
                return Err(refuse(format!("testing path {path} failed")));
            }
            continue;
        }
        if operation != "add" && found.is_none() {
            return Err(refuse(format!("{operation} of {path}: missing value")));
        }
        match (operation, target.pointer_mut(parent)) {
            ("add" | "replace", Some(Value::Object(map))) => {
                map.insert(last, step["value"].clone());
            }
            ("remove", Some(Value::Object(map))) => {
                map.remove(&last);
            }
            ("add", Some(Value::Array(items))) => {
                let index = last.parse().unwrap_or(items.len()).min(items.len());
                items.insert(index, step["value"].clone());
            }
            ("replace" | "remove", Some(Value::Array(items))) => {
                let index: usize = last.parse().map_err(|_| refuse(format!("{path}: no index")))?;
                items.remove(index);
                if operation == "replace" {
                    items.insert(index, step["value"].clone());
                }
            }
            _ => return Err(refuse(format!("{operation} of {path} is not possible"))),
        }
    }
    Ok(())
}

/// Server-side apply.
fn apply(state: &mut State, call: &Call<'_>) -> Outcome {
    let manager = call.request.parameter("fieldManager").to_owned();
    if manager.is_empty() {
        let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
        return Err(Refusal::plain(422, "Invalid", message));
    }
    let mut config = call.request.json()?;
    check_place(call, &config)?;
    if text(&config, "/apiVersion").is_empty() || text(&config, "/kind").is_empty() {
        return Err(Refusal::bad_request("apiVersion and kind must be set in an apply patch"));
    }
    if config["metadata"]["managedFields"].as_array().is_some_and(|list| !list.is_empty()) {
        return Err(Refusal::bad_request("metadata.managedFields must be nil"));
    }
    let Some(old) = state.get(call.kind, &call.namespace, &call.name).cloned() else {
        return create_by_apply(state, call, config, &manager);
    };
    let mut all = shares(&old);
    let applied = leaves(&config);
    if call.kind.group == RBAC {
        // Defaults inside lists count when lists are compared.
        validate::complete(call.kind, &call.namespace, &mut config);
    }
    let conflicts = conflicts(&all, &manager, &applied, &old, &config);
    if !conflicts.is_empty() && call.request.parameter("force") != "true" {
        return Err(Refusal::field_conflict(call.kind, &call.name, &conflicts));
    }
    let mut new = old.clone();
    for path in &applied {
        let value = lookup(&config, path).cloned().unwrap_or_default();
        if lookup(&old, path) != Some(&value) {
            for share in all.iter_mut().filter(|share| !share.is(&manager, "Apply")) {
                share.fields.remove(path);
            }
        }
        set(&mut new, path, value);
    }
    let before = all.iter().find(|share| share.is(&manager, "Apply")).map(|share| share.fields.clone());
    for path in before.iter().flatten().filter(|path| !applied.contains(*path)) {
        let others = all.iter().any(|share| !share.is(&manager, "Apply") && share.fields.contains(path));
        if !others {
            unset(&mut new, path);
        }
    }
    give(&mut all, &manager, "Apply", applied);
    write_shares(&mut new, &all, call.kind);
    for field in ["uid", "resourceVersion"] {
        new["metadata"][field] = config["metadata"][field].clone();
    }
    Ok(Answer::json(200, &store_change(state, call, &old, new)?))
}

/// The managers whose values an apply would change, and the fields.
fn conflicts(
    all: &[Share],
    manager: &str,
    applied: &BTreeSet<Path>,
    old: &Value,
    config: &Value,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in applied {
        if lookup(old, path) == lookup(config, path) {
            continue;
        }
        let owners = all.iter().filter(|share| !share.is(manager, "Apply") && share.fields.contains(path));
        found.extend(owners.map(|share| (share.manager.clone(), format!(".{}", path.join(".")))));
    }
    found
}

fn create_by_apply(state: &mut State, call: &Call<'_>, mut config: Value, manager: &str) -> Outcome {
    let wish = Attributes {
        verb: "create".to_owned(),
        group: call.kind.group.to_owned(),
        resource: call.kind.plural.to_owned(),
        namespace: call.namespace.clone(),
        name: call.name.clone(),
        path: None,
    };
    state.authorize(call.who, &wish)?;
    let uid = text(&config, "/metadata/uid");
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(Refusal::conflict(call.kind, &call.name, &why));
    }
    config["metadata"]["name"] = call.name.clone().into();
    // "0" guards nothing.
    if config["metadata"]["resourceVersion"] == "0" {
        config["metadata"]["resourceVersion"] = "".into();
    }
    Ok(Answer::json(201, &create(state, call, config, Some(manager))?))
}
