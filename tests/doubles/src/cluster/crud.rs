//! Reading, making, replacing and deleting objects.

use serde_json::{Value, json};

use super::admission;
use super::answer::{Answer, Outcome, Refusal};
use super::managed::{record_update, same_content, shares, write_shares};
use super::routes::Call;
use super::store::{Key, State, fresh_identity, has_finalizers, known, text};
use super::validate;

/// The object in the form that the caller accepts.
fn shaped(call: &Call<'_>, object: &Value) -> Value {
    if call.request.accept.contains("as=PartialObjectMetadata") {
        let metadata = &object["metadata"];
        return json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
    }
    object.clone()
}

fn existing(state: &State, call: &Call<'_>) -> Outcome<Value> {
    let found = state.get(call.kind, &call.namespace, &call.name);
    found.cloned().ok_or_else(|| Refusal::not_found(call.kind, &call.name))
}

/// One object.
pub(crate) fn get(state: &State, call: &Call<'_>) -> Outcome {
    Ok(Answer::json(200, &shaped(call, &existing(state, call)?)))
}

fn matches_selectors(call: &Call<'_>, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    let terms = call.request.parameter("labelSelector").split(',').filter(|term| !term.is_empty());
    let labelled = terms.into_iter().all(|term| {
        if let Some((key, value)) = term.split_once("!=") {
            return labels[key.trim()] != value.trim();
        }
        match term.split_once('=') {
            Some((key, value)) => labels[key.trim()] == value.trim_start_matches('=').trim(),
            None => match term.strip_prefix('!') {
                Some(key) => labels[key].is_null(),
                None => !labels[term].is_null(),
            },
        }
    });
    let fields = call.request.parameter("fieldSelector").split(',').filter(|term| !term.is_empty());
    labelled
        && fields.into_iter().all(|term| {
            let (key, value) = term.split_once('=').unwrap_or((term, ""));
            text(object, &format!("/{}", key.replace('.', "/"))) == value.trim_start_matches('=')
        })
}

fn selected(state: &State, call: &Call<'_>) -> Vec<(Key, Value)> {
    state
        .objects
        .iter()
        .filter(|(key, _)| key.kind == call.kind)
        .filter(|(key, _)| call.namespace.is_empty() || key.namespace == call.namespace)
        .filter(|(_, object)| matches_selectors(call, object))
        .map(|(key, object)| (key.clone(), object.clone()))
        .collect()
}

/// A list, in portions if a limit is given.
pub(crate) fn list(state: &State, call: &Call<'_>) -> Answer {
    let all = selected(state, call);
    let start: usize = call.request.parameter("continue").parse().unwrap_or(0);
    let limit: usize = call.request.parameter("limit").parse().unwrap_or(0);
    let size = if limit == 0 { usize::MAX } else { limit };
    let left = all.len().saturating_sub(start);
    let mut metadata = json!({"resourceVersion": state.version.to_string()});
    if left > size {
        metadata["continue"] = (start + size).to_string().into();
        metadata["remainingItemCount"] = (left - size).into();
    }
    let partial = call.request.accept.contains("as=PartialObjectMetadata");
    let items: Vec<Value> = all
        .iter()
        .skip(start)
        .take(size)
        .map(|(_, object)| {
            let mut item = shaped(call, object);
            if let Some(map) = item.as_object_mut().filter(|_| !partial) {
                map.remove("kind");
                map.remove("apiVersion");
            }
            item
        })
        .collect();
    let (kind, version) = if partial {
        ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned())
    } else {
        (format!("{}List", call.kind.kind), call.kind.api_version())
    };
    let body = json!({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items});
    Answer::json(200, &body)
}

/// Refuses a body that is not for this place.
pub(crate) fn check_place(call: &Call<'_>, object: &Value) -> Outcome<()> {
    if !object.is_object() || !(object["metadata"].is_object() || object["metadata"].is_null()) {
        return Err(Refusal::bad_request("the body of the request is not an object"));
    }
    for pointer in ["/metadata/labels", "/metadata/annotations", "/roleRef", "/data", "/status"] {
        if object.pointer(pointer).is_some_and(|value| !value.is_object() && !value.is_null()) {
            return Err(Refusal::bad_request(format!("{pointer} of the body is not an object")));
        }
    }
    let (kind, version) = (text(object, "/kind"), text(object, "/apiVersion"));
    let expected = call.kind.api_version();
    if (!kind.is_empty() && kind != call.kind.kind) || (!version.is_empty() && version != expected) {
        return Err(Refusal::bad_request(format!(
            "{} in version \"{expected}\" cannot be handled as a {}: no kind \"{kind}\" is registered for \
             version \"{version}\"",
            call.kind.kind, call.kind.kind
        )));
    }
    let namespace = text(object, "/metadata/namespace");
    if call.kind.namespaced && !namespace.is_empty() && namespace != call.namespace {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let name = text(object, "/metadata/name");
    if !call.name.is_empty() && !name.is_empty() && name != call.name {
        return Err(Refusal::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name
        )));
    }
    Ok(())
}

fn check_namespace(state: &State, call: &Call<'_>, name: &str) -> Outcome<()> {
    if !call.kind.namespaced {
        return Ok(());
    }
    let home = &call.namespace;
    let Some(namespace) = state.core("namespaces", "", home) else {
        return Err(Refusal::not_found(known("", "namespaces"), home));
    };
    if namespace["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {home} because it is being terminated");
    let cause = format!("namespace {home} is being terminated");
    let refusal = Refusal::forbidden(call.kind, name, &why);
    Err(refusal.with_cause("NamespaceTerminating", &cause, "metadata.namespace"))
}

/// Makes an object; `applied` is the field manager if it is made by an apply.
pub(crate) fn create(
    state: &mut State,
    call: &Call<'_>,
    mut object: Value,
    applied: Option<&str>,
) -> Outcome<Value> {
    check_place(call, &object)?;
    validate::generate_name(&mut object);
    let name = text(&object, "/metadata/name").to_owned();
    check_namespace(state, call, &name)?;
    if !text(&object, "/metadata/resourceVersion").is_empty() {
        return Err(Refusal::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let config = object.clone();
    validate::complete(call.kind, &call.namespace, &mut object);
    state.check_escalation(call.who, call.kind, &call.namespace, &object)?;
    validate::check(call.kind, &object)?;
    admission::admit(state, call, &object)?;
    let key = Key::new(call.kind, &call.namespace, &name);
    if state.objects.contains_key(&key) {
        return Err(Refusal::already_exists(call.kind, &name));
    }
    fresh_identity(&mut object);
    for field in ["deletionTimestamp", "managedFields"] {
        object["metadata"].as_object_mut().and_then(|metadata| metadata.remove(field));
    }
    if let Some(manager) = applied {
        let mut all = shares(&json!({}));
        super::managed::give(&mut all, manager, "Apply", super::managed::leaves(&config));
        write_shares(&mut object, &all, call.kind);
    } else {
        record_update(&json!({}), &mut object, &call.request.manager(), call.kind);
    }
    if call.request.is_dry_run() {
        return Ok(object);
    }
    Ok(state.write(&key, object))
}

/// Puts a changed object in the place of the old one, with all checks; `new` has its managers already.
pub(crate) fn store_change(
    state: &mut State,
    call: &Call<'_>,
    old: &Value,
    mut new: Value,
) -> Outcome<Value> {
    let asked_version = text(&new, "/metadata/resourceVersion").to_owned();
    let asked_uid = text(&new, "/metadata/uid").to_owned();
    validate::complete(call.kind, &call.namespace, &mut new);
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "resourceVersion", "generateName"] {
        new["metadata"][field] = old["metadata"][field].clone();
    }
    new["metadata"]["name"] = call.name.clone().into();
    if call.subresource == "status" {
        let (status, managed) = (new["status"].clone(), new["metadata"]["managedFields"].clone());
        new = old.clone();
        new["status"] = status;
        new["metadata"]["managedFields"] = managed;
    } else if !old["status"].is_null() {
        new["status"] = old["status"].clone();
    }
    if let Some(metadata) = new["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    if let Some(map) = new.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    let housekeeping = ["managedFields", "resourceVersion", "ownerReferences", "finalizers"];
    if !same_content(old, &new, &housekeeping) {
        state.check_escalation(call.who, call.kind, &call.namespace, &new)?;
    }
    // "0" guards nothing.
    if !matches!(asked_version.as_str(), "" | "0") && asked_version != text(old, "/metadata/resourceVersion")
    {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        return Err(Refusal::conflict(call.kind, &call.name, why));
    }
    let uid = text(old, "/metadata/uid");
    if !asked_uid.is_empty() && asked_uid != uid {
        if call.request.method == "PUT" {
            let why = uid_mismatch(&asked_uid, uid);
            return Err(Refusal::conflict(call.kind, &call.name, &why));
        }
        let problem = format!("Invalid value: \"{asked_uid}\": field is immutable");
        return Err(Refusal::invalid(call.kind, &call.name, "metadata.uid", &problem));
    }
    validate::check(call.kind, &new)?;
    validate::check_change(call.kind, old, &new)?;
    if call.request.is_dry_run() {
        return Ok(new);
    }
    // A change that changes nothing is not stored.
    if same_content(old, &new, &[]) {
        return Ok(old.clone());
    }
    Ok(state.write(&Key::new(call.kind, &call.namespace, &call.name), new))
}

fn uid_mismatch(asked: &str, found: &str) -> String {
    format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {found}")
}

/// Replaces an object.
pub(crate) fn update(state: &mut State, call: &Call<'_>) -> Outcome {
    let mut new = call.request.json()?;
    check_place(call, &new)?;
    let old = existing(state, call)?;
    validate::complete(call.kind, &call.namespace, &mut new);
    if call.kind.plural == "namespaces" || new["status"].is_null() {
        new["status"] = old["status"].clone();
    }
    record_update(&old, &mut new, &call.request.manager(), call.kind);
    Ok(Answer::json(200, &store_change(state, call, &old, new)?))
}

fn delete_options(call: &Call<'_>) -> Outcome<Value> {
    if call.request.body.is_empty() { Ok(json!({})) } else { call.request.json() }
}

/// Deletes an object, if it is the one that is meant.
pub(crate) fn delete(state: &mut State, call: &Call<'_>) -> Outcome {
    let options = delete_options(call)?;
    let old = existing(state, call)?;
    let (uid, version) = (text(&old, "/metadata/uid"), text(&old, "/metadata/resourceVersion"));
    let wanted = &options["preconditions"];
    if let Some(asked) = wanted["uid"].as_str().filter(|asked| *asked != uid) {
        return Err(Refusal::conflict(call.kind, &call.name, &uid_mismatch(asked, uid)));
    }
    if let Some(asked) = wanted["resourceVersion"].as_str().filter(|asked| *asked != version) {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {asked}, ResourceVersion in object meta: {version}"
        );
        return Err(Refusal::conflict(call.kind, &call.name, &why));
    }
    let namespace = call.kind.plural == "namespaces";
    if namespace && matches!(call.name.as_str(), "default" | "kube-system" | "kube-public") {
        return Err(Refusal::forbidden(call.kind, &call.name, "this namespace may not be deleted"));
    }
    if namespace && old["metadata"]["deletionTimestamp"].is_string() {
        let why = "The system is ensuring all content is removed from this namespace.  Upon completion, this \
                   namespace will automatically be purged by the system.";
        return Err(Refusal::conflict(call.kind, &call.name, why));
    }
    let dry = call.request.is_dry_run() || options["dryRun"] == json!(["All"]);
    let key = Key::new(call.kind, &call.namespace, &call.name);
    let mut shown = old.clone();
    if !dry {
        state.delete(&key);
        shown = state.objects.get(&key).cloned().unwrap_or(old.clone());
    }
    let returns_object = matches!(
        call.kind.plural,
        "pods"
            | "serviceaccounts"
            | "services"
            | "resourcequotas"
            | "podtemplates"
            | "persistentvolumeclaims"
    );
    if namespace || has_finalizers(&old) || returns_object {
        return Ok(Answer::json(200, &shown));
    }
    let mut details = json!({"name": call.name, "kind": call.kind.plural, "uid": uid});
    if !call.kind.group.is_empty() {
        details["group"] = call.kind.group.into();
    }
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Ok(Answer::json(200, &body))
}

/// Deletes what a list would show.
pub(crate) fn delete_all(state: &mut State, call: &Call<'_>) -> Outcome {
    let options = delete_options(call)?;
    let answer = list(state, call);
    if !call.request.is_dry_run() && options["dryRun"] != json!(["All"]) {
        for (key, _) in selected(state, call) {
            state.delete(&key);
        }
    }
    Ok(answer)
}
