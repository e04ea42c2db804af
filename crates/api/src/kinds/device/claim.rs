//! The devices that a claim asks for: requests, constraints over what is chosen for them, and configuration.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{at_most, configuration, distinct, distinct_texts, fully_qualified, label, selector, tolerations};
use crate::field::{Cursor, ErrorList};
use crate::kinds::fill::{each, fill_empty, fill_zero, map_at};
use crate::names;

const MOST_REQUESTS: usize = 32;
const MOST_ALTERNATIVES: usize = 8;
const MOST_CONSTRAINTS: usize = 32;
pub(in crate::kinds) const MOST_CONFIGURATIONS: usize = 32;

/// The names that a claim has for what it asks: of each request those of its alternatives.
pub(in crate::kinds) struct RequestNames<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> RequestNames<'a> {
    /// Of a claim's spec.
    pub fn of(spec: &'a Cursor<'a>) -> Self {
        let requests = spec.value().and_then(|s| s.get("devices")?.get("requests")?.as_array());
        let text = |v: &'a Value| v.get("name").and_then(Value::as_str).unwrap_or_default();
        let alternatives = |request: &'a Value| {
            let list = request.get("firstAvailable").and_then(Value::as_array);
            list.into_iter().flatten().map(text).collect()
        };
        Self(
            requests
                .into_iter()
                .flatten()
                .map(|r| (text(r), alternatives(r)))
                .collect(),
        )
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((request, alternative)) => self.0.get(request).is_some_and(|of| of.contains(&alternative)),
        }
    }
}

/// The defaults of a claim's spec.
pub(in crate::kinds) fn set_defaults(spec: &mut Map<String, Value>) {
    let request = |request: &mut Map<String, Value>| {
        fill_empty(request, "allocationMode", "ExactCount");
        if request.get("allocationMode").and_then(Value::as_str) == Some("ExactCount") {
            fill_zero(request, "count", 1);
        }
        each(request, "tolerations", |t| fill_empty(t, "operator", "Equal"));
    };
    if let Some(devices) = map_at(spec, &["devices"]) {
        each(devices, "requests", |of| {
            if let Some(exactly) = map_at(of, &["exactly"]) {
                request(exactly);
            }
            each(of, "firstAvailable", request);
        });
    }
}

/// Takes from a claim's spec what is not served unless a cluster is asked for it.
pub(in crate::kinds) fn drop_not_served(spec: &mut Map<String, Value>) {
    let Some(devices) = map_at(spec, &["devices"]) else {
        return;
    };
    each(devices, "requests", |of| {
        if let Some(exactly) = map_at(of, &["exactly"]) {
            exactly.remove("derivedAttributes");
        }
        each(of, "firstAvailable", |alternative| {
            alternative.remove("derivedAttributes");
        });
    });
}

/// The rules of a claim's spec.
pub(in crate::kinds) fn validate(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let devices = spec.at("devices");
    let known = RequestNames::of(spec);
    let requests = devices.at("requests");
    for of in at_most(&requests, MOST_REQUESTS, errors) {
        request(&of, errors);
    }
    distinct(&requests, MOST_REQUESTS, "name", errors);
    let constraints = devices.at("constraints");
    for constraint in at_most(&constraints, MOST_CONSTRAINTS, errors) {
        references(&constraint.at("requests"), &known, errors);
        let (matched, distinct) = (constraint.at("matchAttribute"), constraint.at("distinctAttribute"));
        if matched.is_set() {
            fully_qualified(&matched, errors);
        } else if distinct.is_set() {
            fully_qualified(&distinct, errors);
        } else {
            errors.required(
                &constraint,
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            );
        }
    }
    for config in at_most(&devices.at("config"), MOST_CONFIGURATIONS, errors) {
        references(&config.at("requests"), &known, errors);
        configuration(&config, false, errors);
    }
}

fn request(of: &Cursor<'_>, errors: &mut ErrorList) {
    label(&of.at("name"), errors);
    let (exactly, alternatives) = (of.at("exactly"), of.at("firstAvailable"));
    match (exactly.is_set(), !alternatives.is_empty()) {
        (false, false) => errors.required(of, "exactly one of `exactly` or `firstAvailable` is required"),
        (true, true) => errors.invalid_value(
            of,
            &Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        (true, false) => devices(&exactly, errors),
        (false, true) => {
            for alternative in at_most(&alternatives, MOST_ALTERNATIVES, errors) {
                label(&alternative.at("name"), errors);
                devices(&alternative, errors);
            }
            distinct(&alternatives, MOST_ALTERNATIVES, "name", errors);
        }
    }
}

/// Which devices, and how many.
fn devices(of: &Cursor<'_>, errors: &mut ErrorList) {
    let class = of.at("deviceClassName");
    if class.is_empty() {
        errors.required(&class, "");
    } else {
        errors.faults(&class, names::dns1123_subdomain(class.str()));
    }
    selector::validate(&of.at("selectors"), false, errors);
    let (mode, count) = (of.at("allocationMode"), of.at("count"));
    match mode.str() {
        "All" if count.int() != 0 => {
            errors.invalid(&count, "must not be specified when allocationMode is 'All'");
        }
        "All" => {}
        "ExactCount" if count.int() <= 0 => errors.invalid(&count, "must be greater than zero"),
        "ExactCount" => {}
        _ => errors.not_supported(&mode, &["All", "ExactCount"]),
    }
    tolerations(&of.at("tolerations"), errors);
}

/// A list of names of requests.
pub(in crate::kinds) fn references(list: &Cursor<'_>, known: &RequestNames<'_>, errors: &mut ErrorList) {
    if list.len() > MOST_REQUESTS {
        return errors.too_many(list, list.len(), MOST_REQUESTS);
    }
    for name in list.items() {
        reference(&name, known, errors);
    }
    distinct_texts(list, errors);
}

/// The name of a request, or of a request and one of its alternatives.
pub(in crate::kinds) fn reference(at: &Cursor<'_>, known: &RequestNames<'_>, errors: &mut ErrorList) {
    const NOT_ONE: &str =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let name = at.str();
    if name.split('/').count() > 2 {
        return errors.invalid(at, NOT_ONE);
    }
    for part in name.split('/') {
        for fault in names::dns1123_label(part) {
            errors.invalid_value(at, &part.into(), fault);
        }
    }
    if !known.has(name) {
        errors.invalid(at, NOT_ONE);
    }
}
