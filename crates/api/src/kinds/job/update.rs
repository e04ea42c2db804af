//! What of a job an update may change: how many pods run, whether any do, and while none do, where they may go.

use serde_json::{Map, Value};

use super::super::check::{immutable, same};
use super::super::fill::map_made;
use super::rules::is_suspended;
use crate::field::{Cursor, ErrorList};

pub(super) fn validate(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    completions(&spec, &old_spec, errors);
    immutable(&spec.at("selector"), &old_spec.at("selector"), errors);
    template(new, old, errors);
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        immutable(&spec.at(field), &old_spec.at(field), errors);
    }
}

/// An indexed job may grow and shrink as one: completions with parallelism.
fn completions(spec: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let (now, before) = (spec.at("completions"), old.at("completions"));
    if now.value() == before.value() {
        return;
    }
    let indexed = spec.at("completionMode").str() == "Indexed";
    if !indexed {
        immutable(&now, &before, errors);
        return;
    }
    let parallelism = spec.at("parallelism");
    if now.is_set() && now.int() != parallelism.int() {
        errors.invalid(&now, "can only be modified in tandem with spec.parallelism");
    }
}

/// Before its first pod, a suspended job's pods may still be told where to go.
fn template(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    let (now, before) = (spec.at("template"), old_spec.at("template"));
    let status = old.at("status");
    let not_started = is_suspended(old) && !status.at("startTime").is_set();
    let (Some(Value::Object(changed)), Some(Value::Object(kept))) = (now.value(), before.value()) else {
        return;
    };
    let mut changed = changed.clone();
    if not_started {
        put_back(&mut changed, kept);
    }
    let changed = Value::Object(changed);
    if !same(Some(&changed), before.value()) {
        errors.invalid(&now, "field is immutable");
    }
}

fn put_back(changed: &mut Map<String, Value>, kept: &Map<String, Value>) {
    let part = |map: &Map<String, Value>, part: &str, field: &str| map.get(part).and_then(|m| m.get(field)).cloned();
    for (section, fields) in [
        ("metadata", &["labels", "annotations"][..]),
        ("spec", &["nodeSelector", "tolerations", "schedulingGates"]),
    ] {
        for field in fields {
            let before = part(kept, section, field);
            let Some(map) = changed.get_mut(section).and_then(Value::as_object_mut) else {
                continue;
            };
            put(map, field, before);
        }
    }
    // Of affinity, only that to nodes may change.
    let before = kept
        .get("spec")
        .and_then(|s| s.get("affinity")?.get("nodeAffinity"))
        .cloned();
    if let Some(spec) = changed.get_mut("spec").and_then(Value::as_object_mut)
        && let Some(affinity) = map_made(spec, "affinity")
    {
        put(affinity, "nodeAffinity", before);
    }
}

fn put(map: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    match value {
        Some(value) => map.insert(field.to_owned(), value),
        None => map.remove(field),
    };
}
