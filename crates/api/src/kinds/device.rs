//! What the kinds of dynamic resource allocation share: names of drivers, pools, devices and attributes, selectors,
//! configurations, taints and tolerations.

pub(super) mod claim;
pub(super) mod selector;

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::not_empty;
pub(super) use super::pod_spec::csi_driver_name as driver_name;
use crate::field::{Cursor, ErrorList};
use crate::names;

const LONGEST_POOL: usize = 253;
/// The name of an attribute or a capacity, without its domain.
const LONGEST_ID: usize = 32;
/// Bytes of JSON that a driver's configuration may have.
const LONGEST_PARAMETERS: usize = 10 * 1024;
const MOST_BINDING_CONDITIONS: usize = 4;

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// The items of a list that is not too long; a list that is too long is told of, and nothing in it.
pub(super) fn at_most<'b>(
    list: &'b Cursor<'b>,
    most: usize,
    errors: &mut ErrorList,
) -> impl Iterator<Item = Cursor<'b>> + use<'b> {
    let fits = list.len() <= most;
    if !fits {
        errors.too_many(list, list.len(), most);
    }
    list.items().filter(move |_| fits)
}

/// Each item of the list once, by the name that is at `key` of it. Nothing is said of a list that is too long anyway.
pub(super) fn distinct(list: &Cursor<'_>, most: usize, key: &str, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for item in list.items().filter(|_| list.len() <= most) {
        let name = item.at(key).str();
        if !seen.insert(name.to_owned()) {
            errors.duplicate_value(&item, &name.into(), "");
        }
    }
}

/// Each text of the list once.
pub(super) fn distinct_texts(list: &Cursor<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for item in list.items() {
        if !seen.insert(item.str().to_owned()) {
            errors.duplicate(&item);
        }
    }
}

/// A name that must be a label; one that is absent is as if it were empty.
pub(super) fn label(at: &Cursor<'_>, errors: &mut ErrorList) {
    for fault in names::dns1123_label(at.str()) {
        errors.invalid_value(at, &at.str().into(), fault);
    }
}

pub(super) fn pool_name(at: &Cursor<'_>, errors: &mut ErrorList) {
    let name = at.str();
    if name.is_empty() {
        return errors.required(at, "");
    }
    if name.len() > LONGEST_POOL {
        errors.too_long(at, LONGEST_POOL);
    }
    for part in name.split('/') {
        for fault in names::dns1123_subdomain(part) {
            errors.invalid_value(at, &part.into(), fault);
        }
    }
}

/// `domain/name` of an attribute or a capacity, or the name alone, told of at `place`.
pub(super) fn qualified_name(place: &Cursor<'_>, name: &str, errors: &mut ErrorList) {
    match name.split('/').collect::<Vec<_>>()[..] {
        [alone] => identifier(place, alone, errors),
        [domain, name] => {
            if domain.is_empty() {
                errors.invalid_value(place, &"".into(), "the domain must not be empty");
            } else {
                domain_name(place, domain, errors);
            }
            if name.is_empty() {
                errors.invalid_value(place, &"".into(), "the name must not be empty");
            } else {
                identifier(place, name, errors);
            }
        }
        _ => errors.invalid_value(place, &name.into(), "must not contain more than one slash"),
    }
}

fn identifier(place: &Cursor<'_>, id: &str, errors: &mut ErrorList) {
    if id.len() > LONGEST_ID {
        errors.too_long(place, LONGEST_ID);
    }
    for fault in names::c_identifier(id) {
        errors.invalid_value(place, &id.into(), fault);
    }
}

/// The domain of an attribute is the name of a driver.
fn domain_name(place: &Cursor<'_>, domain: &str, errors: &mut ErrorList) {
    const LONGEST: usize = 63;
    if domain.len() > LONGEST {
        errors.too_long(place, LONGEST);
    }
    for fault in names::dns1123_subdomain(&domain.to_lowercase()) {
        errors.invalid_value(place, &domain.into(), fault);
    }
}

/// `domain/name`, with both.
pub(super) fn fully_qualified(at: &Cursor<'_>, errors: &mut ErrorList) {
    qualified_name(at, at.str(), errors);
    if !at.str().contains('/') {
        errors.invalid(
            at,
            "a fully qualified name must be a domain and a name separated by a slash",
        );
    }
}

pub(super) fn uid(at: &Cursor<'_>, errors: &mut ErrorList) {
    let uid = at.str();
    let is_normal = uid.len() == 36
        && uid.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
        });
    if !is_normal {
        errors.invalid(
            at,
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal \
             characters",
        );
    }
}

/// A driver's own configuration, in something that has an `opaque` part. What is stored may be longer.
pub(super) fn configuration(config: &Cursor<'_>, stored: bool, errors: &mut ErrorList) {
    let opaque = config.at("opaque");
    if !opaque.is_set() {
        return errors.required(&opaque, "");
    }
    driver_name(&opaque.at("driver"), errors);
    raw(&opaque.at("parameters"), stored, errors);
}

/// Any JSON object.
pub(super) fn raw(at: &Cursor<'_>, stored: bool, errors: &mut ErrorList) {
    match at.value() {
        None => errors.required(at, ""),
        Some(value) if !stored && value.to_string().len() > LONGEST_PARAMETERS => {
            errors.too_long(at, LONGEST_PARAMETERS);
        }
        Some(Value::Object(_)) => {}
        Some(_) => errors.invalid_value(at, &"<value omitted>".into(), "must be a valid JSON object"),
    }
}

pub(super) fn taint(taint: &Cursor<'_>, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    let (key, value, effect) = (taint.at("key"), taint.at("value"), taint.at("effect"));
    names::label_name(&key, key.str(), errors);
    label_value(&value, errors);
    if old.is_none_or(|old| old.at("effect").str() != effect.str()) {
        if effect.is_empty() {
            errors.required(&effect, "");
        } else if !EFFECTS.contains(&effect.str()) {
            errors.not_supported(&effect, &EFFECTS);
        }
    }
}

pub(super) fn tolerations(list: &Cursor<'_>, errors: &mut ErrorList) {
    for toleration in list.items() {
        let (key, operator) = (toleration.at("key"), toleration.at("operator"));
        let (value, effect) = (toleration.at("value"), toleration.at("effect"));
        if !key.is_empty() {
            names::label_name(&key, key.str(), errors);
        }
        match operator.str() {
            "Exists" if !value.is_empty() => errors.invalid(&value, "must be empty for operator `Exists`"),
            "Exists" => {}
            "Equal" => label_value(&value, errors),
            "" => errors.required(&operator, ""),
            _ => errors.not_supported(&operator, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect.str()) {
            errors.not_supported(&effect, &EFFECTS);
        }
    }
}

fn label_value(at: &Cursor<'_>, errors: &mut ErrorList) {
    errors.faults(at, names::label_value(at.str()));
}

/// The conditions that a device must have, or must not have, before a pod is bound that uses it.
pub(super) fn binding_conditions(device: &Cursor<'_>, errors: &mut ErrorList) {
    let (wanted, failing) = (device.at("bindingConditions"), device.at("bindingFailureConditions"));
    for list in [&wanted, &failing] {
        for condition in at_most(list, MOST_BINDING_CONDITIONS, errors) {
            names::label_name(&condition, condition.str(), errors);
        }
    }
    distinct_texts(&wanted, errors);
    distinct_texts(&failing, errors);
    for condition in failing.items() {
        if wanted.strs().any(|w| w == condition.str()) {
            errors.invalid(
                &condition,
                "bindingFailureConditions must not overlap with bindingConditions",
            );
        }
    }
    for (one, other, detail) in [
        (
            &wanted,
            &failing,
            "bindingConditions are required to use bindingFailureConditions",
        ),
        (
            &failing,
            &wanted,
            "bindingFailureConditions are required to use bindingConditions",
        ),
    ] {
        if one.is_empty() && !other.is_empty() {
            errors.invalid(one, detail);
        }
    }
}

/// What was named as the user of a claim.
pub(super) fn consumer(reference: &Cursor<'_>, errors: &mut ErrorList) {
    for part in ["resource", "name", "uid"] {
        not_empty(&reference.at(part), errors);
    }
}
