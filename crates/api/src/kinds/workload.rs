//! What the kinds that keep pods of a template have in common: selectors that match the template, rolling updates,
//! counts in status.

use serde_json::Value;

use super::check::{not_negative, same};
use super::pod_spec;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::selector::{LabelSelector, validate_label_selector};

/// A selector that is there, well formed and not empty; `empty` says what is wrong with an empty one.
pub(super) fn selector(at: &Cursor<'_>, empty: &str, errors: &mut ErrorList) -> Option<LabelSelector> {
    let Some(value) = at.value() else {
        errors.required(at, "");
        return None;
    };
    validate_label_selector(at, errors);
    if at.at("matchLabels").len() + at.at("matchExpressions").len() == 0 {
        errors.invalid(at, empty);
    }
    match LabelSelector::from_json(value) {
        Ok(selector) => Some(selector),
        Err(_) => {
            errors.invalid(at, "invalid label selector");
            None
        }
    }
}

/// The template's labels are selected.
pub(super) fn selects_template(selector: &LabelSelector, template: &Cursor<'_>, errors: &mut ErrorList) {
    let metadata = template.at("metadata");
    let labels = metadata.at("labels");
    let label = |key: &str| labels.value().and_then(|l| l.get(key)?.as_str());
    if !selector.is_everything() && !selector.matches(label) {
        let shown = labels
            .value()
            .cloned()
            .unwrap_or_else(|| Value::Object(Default::default()));
        errors.invalid_value(&labels, &shown, "`selector` does not match template `labels`");
    }
}

/// A template of pods that are restarted always and live until they are deleted; `kind` is whose it is, `claims` are
/// volumes that the template does not list because they are made for each pod.
pub(super) fn lasting_template(template: &Cursor<'_>, kind: &str, claims: &[String], errors: &mut ErrorList) {
    if !template.is_set() {
        errors.required(template, "");
        return;
    }
    pod_spec::validate_template(template, claims, errors);
    let spec = template.at("spec");
    let policy = spec.at("restartPolicy");
    if policy.str() != "Always" {
        errors.not_supported_value(&policy, &policy.str().into(), &["Always"]);
    }
    let deadline = spec.at("activeDeadlineSeconds");
    if deadline.is_set() {
        errors.forbidden(&deadline, format!("activeDeadlineSeconds in {kind} is not Supported"));
    }
}

/// Not negative, or a percentage.
pub(super) fn int_or_percent(at: &Cursor<'_>, errors: &mut ErrorList) {
    match at.value() {
        Some(Value::String(text)) => errors.faults(at, names::percent(text)),
        _ => not_negative(at, errors),
    }
}

/// A percentage, if it is one, of at most 100.
pub(super) fn at_most_all(at: &Cursor<'_>, errors: &mut ErrorList) {
    if percentage(at).is_some_and(|p| p > 100) {
        errors.invalid(at, "must not be greater than 100%");
    }
}

fn percentage(at: &Cursor<'_>) -> Option<i64> {
    at.str().strip_suffix('%')?.parse().ok()
}

/// Whether a count or percentage is nothing.
pub(super) fn is_none(at: &Cursor<'_>) -> bool {
    percentage(at).unwrap_or_else(|| at.int()) == 0
}

/// The counts of a status: none negative, and none of `parts` above `replicas`.
/// `ready` is how upstream names the count of those that are ready.
pub(super) fn counts(status: &Cursor<'_>, all: &[&str], parts: &[&str], ready: &str, errors: &mut ErrorList) {
    for field in all {
        not_negative(&status.at(field), errors);
    }
    let replicas = status.at("replicas").int();
    for field in parts {
        let count = status.at(field);
        if count.int() > replicas {
            errors.invalid_value(&count, &count.int().into(), "cannot be greater than status.replicas");
        }
    }
    let available = status.at("availableReplicas");
    if available.int() > status.at("readyReplicas").int() {
        errors.invalid_value(
            &available,
            &available.int().into(),
            format!("cannot be greater than {ready}"),
        );
    }
}

/// A counter that only grows.
pub(super) fn not_decremented(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    if let Some(before) = old.i64()
        && new.i64().unwrap_or_default() < before
    {
        errors.invalid(new, "cannot be decremented");
    }
}

/// The fields of two specs that differ and are not among `may_change`.
pub(super) fn changed_beyond(new: &Cursor<'_>, old: &Cursor<'_>, may_change: &[&str]) -> bool {
    let fields = |at: &Cursor<'_>| -> Vec<String> { at.entries().map(|(k, _)| k.to_owned()).collect() };
    let entry = |at: &Cursor<'_>, field: &str| {
        let value = at.value().and_then(|v| v.get(field)).cloned();
        Value::Object(value.map(|v| (field.to_owned(), v)).into_iter().collect())
    };
    fields(new)
        .iter()
        .chain(fields(old).iter())
        .filter(|field| !may_change.contains(&field.as_str()))
        .any(|field| !same(Some(&entry(new, field)), Some(&entry(old, field))))
}
