//! What of a pod's spec an update may change: images, a deadline that comes nearer, tolerations that are added, gates that
//! are taken away; with gates, also where the pod may go.

use serde_json::{Map, Value};

use super::super::check::same;
use super::{container, toleration};
use crate::field::{Cursor, ErrorList};
use crate::names;

const MAY_CHANGE: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
    additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
    previously negative)";

pub(in crate::kinds) fn validate(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    for list in ["containers", "initContainers"] {
        let (now, before) = (new.at(list), old.at(list));
        if now.len() != before.len() {
            errors.forbidden(&now, "pod updates may not add or remove containers");
            return;
        }
        for container in now.items() {
            container::image_padding(&container.at("image"), errors);
        }
    }
    if !deadline(new, old, errors) {
        return;
    }
    toleration::only_additions(&new.at("tolerations"), &old.at("tolerations"), errors);
    let (gates, old_gates) = (new.at("schedulingGates"), old.at("schedulingGates"));
    for gate in gates.items() {
        let name = gate.at("name");
        if !old_gates.items().any(|g| g.at("name").str() == name.str()) {
            errors.forbidden(
                &name,
                format!(
                    "only deletion is allowed, but found new scheduling gate '{}'",
                    name.str()
                ),
            );
        }
    }
    if same(new.value(), old.value()) {
        return;
    }
    let (Some(Value::Object(now)), Some(Value::Object(before))) = (new.value(), old.value()) else {
        return;
    };
    let mut changed = now.clone();
    undo_allowed(&mut changed, before);
    if !old_gates.is_empty() {
        gated(new, old, &mut changed, before, errors);
    }
    let names: Vec<&str> = changed
        .keys()
        .chain(before.keys().filter(|k| !changed.contains_key(*k)))
        .filter(|field| !same_field(&changed, before, field))
        .map(String::as_str)
        .collect();
    if !names.is_empty() {
        errors.forbidden(new, format!("{MAY_CHANGE}\nchanged: {}", names.join(", ")));
    }
}

fn same_field(a: &Map<String, Value>, b: &Map<String, Value>, field: &str) -> bool {
    // Wrapped, so that the field's own name tells what its zero means.
    let wrap = |map: &Map<String, Value>| {
        let entry = map.get(field).map(|v| (field.to_owned(), v.clone()));
        Value::Object(entry.into_iter().collect())
    };
    same(Some(&wrap(a)), Some(&wrap(b)))
}

/// A deadline may be set, and brought nearer.
fn deadline(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) -> bool {
    let (now, before) = (new.at("activeDeadlineSeconds"), old.at("activeDeadlineSeconds"));
    match (now.i64(), before.i64()) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.faults(&now, names::in_range(seconds, 0, i64::from(i32::MAX)));
            false
        }
        (Some(seconds), Some(before)) if before < seconds => {
            errors.invalid(&now, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errors.invalid(&now, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

/// Puts back what may change, so that what is left different may not.
fn undo_allowed(changed: &mut Map<String, Value>, before: &Map<String, Value>) {
    for list in ["containers", "initContainers"] {
        let images: Vec<Option<Value>> = before
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|c| c.get("image").cloned())
            .collect();
        let containers = changed.get_mut(list).and_then(Value::as_array_mut);
        for (container, image) in containers.into_iter().flatten().zip(images) {
            if let (Some(container), Some(image)) = (container.as_object_mut(), image) {
                container.insert("image".into(), image);
            }
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        put_back(changed, before, field);
    }
    let grace = |spec: &Map<String, Value>| spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
    if grace(before).is_some_and(|g| g < 0) && grace(changed) == Some(1) {
        put_back(changed, before, "terminationGracePeriodSeconds");
    }
}

fn put_back(changed: &mut Map<String, Value>, before: &Map<String, Value>, field: &str) {
    match before.get(field) {
        Some(value) => changed.insert(field.to_owned(), value.clone()),
        None => changed.remove(field),
    };
}

/// While a pod is gated, its node selector and affinity to nodes may become stricter.
fn gated(
    new: &Cursor<'_>,
    old: &Cursor<'_>,
    changed: &mut Map<String, Value>,
    before: &Map<String, Value>,
    errors: &mut ErrorList,
) {
    let (selector, old_selector) = (new.at("nodeSelector"), old.at("nodeSelector"));
    if old_selector
        .entries()
        .any(|(k, v)| selector.key(k).value() != v.value())
    {
        errors.invalid(
            &selector,
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        );
    }
    put_back(changed, before, "nodeSelector");

    let (affinity, old_affinity) = (new.at("affinity"), old.at("affinity"));
    let (nodes, old_nodes) = (affinity.at("nodeAffinity"), old_affinity.at("nodeAffinity"));
    if same(nodes.value(), old_nodes.value()) {
        return;
    }
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let (selector, old_selector) = (nodes.at(required), old_nodes.at(required));
    let (terms, old_terms) = (selector.at("nodeSelectorTerms"), old_selector.at("nodeSelectorTerms"));
    if !old_terms.is_empty() && terms.len() != old_terms.len() {
        errors.invalid(
            &terms,
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        );
    } else {
        for (term, old_term) in terms.items().zip(old_terms.items()) {
            if !has_only_additions(&term, &old_term) {
                errors.invalid(&term, "only additions are allowed (no mutations or deletions)");
            }
        }
    }
    let others = |map: &Map<String, Value>| {
        let mut affinity = map
            .get("affinity")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        affinity.remove("nodeAffinity");
        Value::Object(affinity)
    };
    if same(Some(&others(changed)), Some(&others(before))) {
        put_back(changed, before, "affinity");
    }
}

fn has_only_additions(new: &Cursor<'_>, old: &Cursor<'_>) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    let was_empty = lists.iter().all(|list| old.at(list).is_empty());
    if was_empty {
        return lists.iter().all(|list| new.at(list).is_empty());
    }
    lists.iter().all(|list| {
        let (now, before) = (new.at(list), old.at(list));
        now.len() >= before.len() && now.items().zip(before.items()).all(|(a, b)| same(a.value(), b.value()))
    })
}
