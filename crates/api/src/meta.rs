//! ObjectMeta: the rules that every kind shares. Names follow the kind's [`NameRule`]; what the server fills in
//! (uid, timestamps, resourceVersion, a generated name) is there by the time these run.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::split_api_version;
use crate::strategy::NameRule;

/// Foreground deletion waits for the dependents behind this finalizer.
pub const FOREGROUND_DELETION: &str = "foregroundDeletion";
/// Dependents are let go behind this finalizer.
pub const ORPHAN_DEPENDENTS: &str = "orphan";

/// The rules for the metadata of a new object.
pub fn validate(object: &Cursor<'_>, namespaced: bool, rule: NameRule, errors: &mut ErrorList) {
    let meta = object.at("metadata");
    let generate_name = meta.at("generateName");
    if !generate_name.is_empty() {
        errors.faults(&generate_name, names::object_name(rule, generate_name.str(), true));
    }
    let name = meta.at("name");
    if name.is_empty() {
        errors.required(&name, "name or generateName is required");
    } else {
        errors.faults(&name, names::object_name(rule, name.str(), false));
    }
    let namespace = meta.at("namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.required(&namespace, ""),
        (true, false) => errors.faults(&namespace, names::dns1123_label(namespace.str())),
        (false, true) => {}
        (false, false) => errors.forbidden(&namespace, "not allowed on this type"),
    }
    let generation = meta.at("generation");
    if generation.int() < 0 {
        errors.invalid(&generation, "must be greater than or equal to 0");
    }
    validate_free_parts(object, &meta, errors);
}

/// The rules for the metadata of an update. [`carry_over`] has run, so only what the client set otherwise differs.
pub fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let (meta, old_meta) = (new.at("metadata"), old.at("metadata"));
    if old_meta.at("deletionTimestamp").is_set() {
        no_new_finalizers(&meta.at("finalizers"), &old_meta.at("finalizers"), errors);
    }
    let version = meta.at("resourceVersion");
    if version.is_empty() {
        errors.invalid_value(&version, &"".into(), "must be specified for an update");
    }
    let generation = meta.at("generation");
    if generation.int() < old_meta.at("generation").int() {
        errors.invalid(&generation, "must not be decremented");
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let (now, before) = (meta.at(field), old_meta.at(field));
        if now.is_empty() && before.is_empty() {
            continue;
        }
        errors.immutable(&now, &before);
    }
    validate_free_parts(new, &meta, errors);
}

/// The rules for the metadata of a template (of a pod, a claim): labels and annotations.
pub fn validate_template(meta: &Cursor<'_>, errors: &mut ErrorList) {
    names::annotations(&meta.at("annotations"), errors);
    names::labels(&meta.at("labels"), errors);
}

/// What an update leaves as it is when the client says nothing of it, or may not say: uid, timestamps of creation and
/// deletion, and the grace period.
pub fn carry_over(new: &mut Object, old: &Object) {
    let stored = |field: &'static str| (field, old.get(&["metadata", field]).cloned());
    for (field, value) in [stored("uid"), stored("deletionGracePeriodSeconds")] {
        let absent = match new.get(&["metadata", field]) {
            None => true,
            Some(Value::String(s)) => s.is_empty(),
            Some(_) => false,
        };
        if let (true, Some(value)) = (absent, value) {
            new.set(&["metadata", field], value);
        }
    }
    for (field, value) in [stored("creationTimestamp"), stored("deletionTimestamp")] {
        if let Some(value) = value {
            new.set(&["metadata", field], value);
        }
    }
}

/// The parts that a client may write at any time.
fn validate_free_parts(object: &Cursor<'_>, meta: &Cursor<'_>, errors: &mut ErrorList) {
    names::labels(&meta.at("labels"), errors);
    names::annotations(&meta.at("annotations"), errors);
    validate_owners(&meta.at("ownerReferences"), errors);
    let version = object.at("apiVersion");
    let (group, _) = split_api_version(version.str());
    // Upstream asks it of the kinds of its core alone: neither of definitions nor of what they define.
    let standard_only = !group.contains('.') || (group.ends_with(".k8s.io") && group != "apiextensions.k8s.io");
    validate_finalizers(&meta.at("finalizers"), standard_only, errors);
    validate_managed_fields(&meta.at("managedFields"), errors);
}

fn validate_owners(owners: &Cursor<'_>, errors: &mut ErrorList) {
    let mut controller = String::new();
    for owner in owners.items() {
        let api_version = owner.at("apiVersion");
        let (group, version) = split_api_version(api_version.str());
        if version.is_empty() {
            errors.invalid_value(&api_version, &api_version.str().into(), "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            let part = owner.at(field);
            if part.is_empty() {
                errors.invalid_value(&part, &"".into(), "must not be empty");
            }
        }
        if owner.at("kind").str() == "Event" && version == "v1" && matches!(group, "" | "events.k8s.io") {
            let detail = format!("{group}/{version}, Kind=Event is disallowed from being an owner");
            errors.invalid(&owner, detail);
        }
        if !owner.at("controller").is_true() {
            continue;
        }
        let this = format!("{}/{}", owner.at("kind").str(), owner.at("name").str());
        if controller.is_empty() {
            controller = this;
        } else {
            errors.invalid(
                owners,
                format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {controller} \
                     and {this}"
                ),
            );
        }
    }
}

fn validate_finalizers(finalizers: &Cursor<'_>, standard_only: bool, errors: &mut ErrorList) {
    let mut standard = BTreeSet::new();
    for finalizer in finalizers.items() {
        for fault in names::qualified_name(finalizer.str()) {
            errors.invalid_value(finalizers, &finalizer.str().into(), fault);
        }
        if standard_only {
            validate_standard_finalizer(&finalizer, errors);
        }
        standard.insert(finalizer.str());
    }
    if standard.contains(ORPHAN_DEPENDENTS) && standard.contains(FOREGROUND_DELETION) {
        let detail = format!("finalizer {ORPHAN_DEPENDENTS} and {FOREGROUND_DELETION} cannot be both set");
        errors.invalid(finalizers, detail);
    }
}

/// A finalizer without a domain must be one of the system's own.
pub fn validate_standard_finalizer(finalizer: &Cursor<'_>, errors: &mut ErrorList) {
    let name = finalizer.str();
    if !name.contains('/') && !["kubernetes", ORPHAN_DEPENDENTS, FOREGROUND_DELETION].contains(&name) {
        errors.invalid(
            finalizer,
            "name is neither a standard finalizer name nor is it fully qualified",
        );
    }
}

fn no_new_finalizers(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let before: BTreeSet<&str> = old.strs().collect();
    let extra: BTreeSet<&str> = new.strs().filter(|f| !before.contains(f)).collect();
    if extra.is_empty() {
        return;
    }
    let shown: Vec<String> = extra.into_iter().map(|f| format!("{f:?}")).collect();
    errors.forbidden(
        new,
        format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            shown.join(", ")
        ),
    );
}

fn validate_managed_fields(entries: &Cursor<'_>, errors: &mut ErrorList) {
    for entry in entries.items() {
        let operation = entry.at("operation");
        if !matches!(operation.str(), "Apply" | "Update") {
            errors.invalid_value(&operation, &operation.str().into(), "must be `Apply` or `Update`");
        }
        let fields_type = entry.at("fieldsType");
        if !matches!(fields_type.str(), "" | "FieldsV1") {
            errors.invalid(&fields_type, "must be `FieldsV1`");
        }
        let manager = entry.at("manager");
        if manager.str().len() > 128 {
            errors.too_long(&manager, 128);
        }
        if manager.str().chars().any(char::is_control) {
            errors.invalid(&manager, "should only contain printable characters");
        }
        let subresource = entry.at("subresource");
        if subresource.str().len() > 256 {
            errors.too_long(&subresource, 256);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn on_create(meta: Value, namespaced: bool) -> Vec<String> {
        let object = json!({"metadata": meta});
        let mut errors = ErrorList::new();
        validate(
            &Cursor::root(&object, None),
            namespaced,
            NameRule::DnsSubdomain,
            &mut errors,
        );
        errors.as_slice().iter().map(ToString::to_string).collect()
    }

    fn on_update(change: Value) -> Vec<String> {
        let stored = json!({
            "name": "a", "namespace": "b", "uid": "1", "creationTimestamp": "2024-01-01T00:00:00Z",
            "resourceVersion": "5", "generation": 3,
        });
        let mut new = stored.clone();
        new.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        update(json!({"metadata": new}), json!({"metadata": stored}))
    }

    fn update(new: Value, old: Value) -> Vec<String> {
        let mut errors = ErrorList::new();
        validate_update(&Cursor::root(&new, None), &Cursor::root(&old, None), &mut errors);
        errors.as_slice().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_object_needs_a_name_and_a_namespace_where_there_are_any() {
        assert_eq!(on_create(json!({"name": "a", "namespace": "b"}), true), [""; 0]);
        assert_eq!(
            on_create(json!({}), true),
            [
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Required value"
            ]
        );
        assert_eq!(
            on_create(json!({"name": "a", "namespace": "b"}), false),
            ["metadata.namespace: Forbidden: not allowed on this type"]
        );
        let bad = on_create(json!({"name": "A", "generateName": "A-", "namespace": "b.c"}), true);
        assert_eq!(bad.len(), 3);
        assert!(
            bad[0].starts_with("metadata.generateName: Invalid value: \"A-\": a lowercase"),
            "{bad:?}"
        );
        assert!(bad[2].starts_with("metadata.namespace: Invalid value: \"b.c\": must not contain dots"));
    }

    #[test]
    fn owners_are_complete_and_one_of_them_is_the_controller() {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1", "controller": true});
        let with = |owners: Value| on_create(json!({"name": "a", "ownerReferences": owners}), false);
        assert_eq!(with(json!([owner])), [""; 0]);
        assert_eq!(
            with(json!([{"apiVersion": "apps/", "kind": "", "name": ""}])),
            [
                "metadata.ownerReferences[0].apiVersion: Invalid value: \"apps/\": version must not be empty",
                "metadata.ownerReferences[0].kind: Invalid value: \"\": must not be empty",
                "metadata.ownerReferences[0].name: Invalid value: \"\": must not be empty",
                "metadata.ownerReferences[0].uid: Invalid value: \"\": must not be empty",
            ]
        );
        let two = with(json!([owner, owner]));
        assert_eq!(two.len(), 1);
        assert!(two[0].ends_with(
            "Only one reference can have Controller set to true. Found \"true\" in references for ReplicaSet/r and \
             ReplicaSet/r"
        ));
    }

    #[test]
    fn finalizers_are_qualified_or_the_systems_own() {
        let with = |finalizers: Value| on_create(json!({"name": "a", "finalizers": finalizers}), false);
        assert_eq!(with(json!(["example.com/x", "orphan"])), [""; 0]);
        assert_eq!(
            with(json!(["mine"])),
            [
                "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it \
                 fully qualified"
            ]
        );
        assert_eq!(
            with(json!(["orphan", "foregroundDeletion"])),
            [
                "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and \
                 foregroundDeletion cannot be both set"
            ]
        );
    }

    #[test]
    fn identity_does_not_change() {
        assert_eq!(on_update(json!({"labels": {"a": "b"}})), [""; 0]);
        for (change, expected) in [
            (
                json!({"name": "c"}),
                "metadata.name: Invalid value: \"c\": field is immutable",
            ),
            (
                json!({"uid": "2"}),
                "metadata.uid: Invalid value: \"2\": field is immutable",
            ),
            (
                json!({"deletionTimestamp": "2024-01-01T00:00:00Z"}),
                "metadata.deletionTimestamp: Invalid value: \"2024-01-01T00:00:00Z\": field is immutable",
            ),
            (
                json!({"resourceVersion": ""}),
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            ),
            (
                json!({"generation": 2}),
                "metadata.generation: Invalid value: 2: must not be decremented",
            ),
        ] {
            assert_eq!(on_update(change), [expected]);
        }
    }

    #[test]
    fn a_terminating_object_takes_no_new_finalizers() {
        let old = json!({"metadata": {
            "name": "a", "resourceVersion": "1", "deletionTimestamp": "2024-01-01T00:00:00Z", "finalizers": ["a.b/c"]}});
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!([]);
        assert_eq!(update(new.clone(), old.clone()), [""; 0]);
        new["metadata"]["finalizers"] = json!(["a.b/c", "a.b/d"]);
        assert_eq!(
            update(new, old),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found \
                 new finalizers []string{\"a.b/d\"}"
            ]
        );
    }

    #[test]
    fn an_update_keeps_what_the_client_may_not_say() {
        let object = |meta: Value| Object::from_value(json!({"metadata": meta})).unwrap();
        let old = object(json!({"uid": "1", "creationTimestamp": "t0", "deletionTimestamp": "t1"}));
        let mut new = object(json!({"uid": "", "creationTimestamp": "t9"}));
        carry_over(&mut new, &old);
        assert_eq!(new, old);
    }
}
