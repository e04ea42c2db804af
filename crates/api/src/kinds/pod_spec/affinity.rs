//! Where a pod wants to be: affinity to nodes and other pods, and how pods spread over a topology. The node selector is
//! also that of volumes.

use std::collections::BTreeSet;

use super::super::check::one_of_if_set;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::selector::validate_label_selector;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn validate(affinity: &Cursor<'_>, errors: &mut ErrorList) {
    let node = affinity.at("nodeAffinity");
    let required = node.at(REQUIRED);
    if required.is_set() {
        node_selector(&required, errors);
    }
    for term in node.at(PREFERRED).items() {
        weight(&term.at("weight"), errors);
        // A preference for a value that no label can have is merely never met.
        node_selector_term(&term.at("preference"), false, errors);
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.at(field);
        for term in pods.at(REQUIRED).items() {
            pod_term(&term, errors);
        }
        for term in pods.at(PREFERRED).items() {
            weight(&term.at("weight"), errors);
            pod_term(&term.at("podAffinityTerm"), errors);
        }
    }
}

fn weight(weight: &Cursor<'_>, errors: &mut ErrorList) {
    if !(1..=100).contains(&weight.int()) {
        errors.invalid(weight, "must be in the range 1-100");
    }
}

/// Of nodes: at least one term, any of which is to match.
pub(in crate::kinds) fn node_selector(selector: &Cursor<'_>, errors: &mut ErrorList) {
    let terms = selector.at("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&terms, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_selector_term(&term, true, errors);
    }
}

fn node_selector_term(term: &Cursor<'_>, checks_values: bool, errors: &mut ErrorList) {
    for requirement in term.at("matchExpressions").items() {
        node_requirement(&requirement, errors);
        if checks_values {
            for value in requirement.at("values").items() {
                errors.faults(&value, names::label_value(value.str()));
            }
        }
    }
    for requirement in term.at("matchFields").items() {
        node_field_requirement(&requirement, errors);
    }
}

fn node_requirement(requirement: &Cursor<'_>, errors: &mut ErrorList) {
    let (operator, values) = (requirement.at("operator"), requirement.at("values"));
    match operator.str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "In" | "NotIn" => {}
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(
                &values,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "Exists" | "DoesNotExist" => {}
        "Gt" | "Lt" if values.len() != 1 => {
            errors.required(
                &values,
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            );
        }
        "Gt" | "Lt" => {}
        other => errors.invalid_value(&operator, &other.into(), "not a valid selector operator"),
    }
    let key = requirement.at("key");
    names::label_name(&key, key.str(), errors);
}

fn node_field_requirement(requirement: &Cursor<'_>, errors: &mut ErrorList) {
    let (operator, values) = (requirement.at("operator"), requirement.at("values"));
    match operator.str() {
        "In" | "NotIn" if values.len() != 1 => {
            errors.required(
                &values,
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            );
        }
        "In" | "NotIn" => {}
        other => errors.invalid_value(&operator, &other.into(), "not a valid selector operator"),
    }
    let key = requirement.at("key");
    if key.str() == "metadata.name" {
        for value in values.items() {
            errors.faults(&value, names::dns1123_subdomain(value.str()));
        }
    } else {
        errors.invalid_value(&key, &key.str().into(), "not a valid field selector key");
    }
}

/// Of a storage class: where its volumes may be.
pub(in crate::kinds) fn topology_selector_term(term: &Cursor<'_>, errors: &mut ErrorList) {
    let mut keys = BTreeSet::new();
    for requirement in term.at("matchLabelExpressions").items() {
        let values = requirement.at("values");
        if values.is_empty() {
            errors.required(&values, "");
        }
        let mut seen = BTreeSet::new();
        for value in values.items() {
            if !seen.insert(value.str().to_owned()) {
                errors.duplicate(&value);
            }
        }
        let key = requirement.at("key");
        names::label_name(&key, key.str(), errors);
        if !keys.insert(key.str().to_owned()) {
            errors.duplicate(&key);
        }
    }
}

fn pod_term(term: &Cursor<'_>, errors: &mut ErrorList) {
    for field in ["labelSelector", "namespaceSelector"] {
        validate_label_selector(&term.at(field), errors);
    }
    for namespace in term.at("namespaces").strs() {
        for fault in names::dns1123_label(namespace) {
            errors.invalid_value(&term.said("namespace"), &namespace.into(), fault);
        }
    }
    label_keys(term, errors);
    let key = term.at("topologyKey");
    if key.is_empty() {
        errors.required(&key, "can not be empty");
    }
    names::label_name(&key, key.str(), errors);
}

fn label_keys(term: &Cursor<'_>, errors: &mut ErrorList) {
    let selector = term.at("labelSelector");
    let (matching, mismatching) = (term.at("matchLabelKeys"), term.at("mismatchLabelKeys"));
    for keys in [&matching, &mismatching] {
        if keys.is_empty() {
            continue;
        }
        if !selector.is_set() {
            errors.forbidden(keys, "must not be specified when labelSelector is not set");
            continue;
        }
        for key in keys.items() {
            names::label_name(&key, key.str(), errors);
        }
    }
    // The selector holds an expression for each key by now; one more with the same key is the client's own.
    let mut seen: BTreeSet<String> = selector
        .at("matchLabels")
        .entries()
        .map(|(k, _)| k.to_owned())
        .collect();
    for expression in selector.at("matchExpressions").items() {
        let key = expression.at("key");
        let twice = !seen.insert(key.str().to_owned());
        for (i, other) in matching.strs().enumerate() {
            if twice && other == key.str() {
                errors.invalid(&matching.index(i), "exists in both matchLabelKeys and labelSelector");
            }
        }
    }
    for key in matching.items() {
        if mismatching.strs().any(|k| k == key.str()) {
            errors.invalid(&key, "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
}

pub(super) fn topology_spread(constraints: &Cursor<'_>, errors: &mut ErrorList) {
    let kind = |constraint: &Cursor<'_>| {
        let (key, action) = (constraint.at("topologyKey"), constraint.at("whenUnsatisfiable"));
        format!("{{{}, {}}}", key.str(), action.str())
    };
    for (i, constraint) in constraints.items().enumerate() {
        let skew = constraint.at("maxSkew");
        if skew.int() <= 0 {
            errors.invalid(&skew, "must be greater than zero");
        }
        let key = constraint.at("topologyKey");
        if key.is_empty() {
            errors.required(&key, "can not be empty");
        }
        let action = constraint.at("whenUnsatisfiable");
        if !matches!(action.str(), "DoNotSchedule" | "ScheduleAnyway") {
            errors.not_supported(&action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let this = kind(&constraint);
        if constraints.items().skip(i + 1).any(|other| kind(&other) == this) {
            let place = constraint.said("{topologyKey, whenUnsatisfiable}");
            errors.duplicate_value(&place, &this.as_str().into(), "");
        }
        let least = constraint.at("minDomains");
        if let Some(domains) = least.i64() {
            if domains <= 0 {
                errors.invalid(&least, "must be greater than zero");
            }
            if action.str() != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                    action.str()
                );
                errors.invalid(&least, detail);
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of_if_set(&constraint.at(policy), &["Honor", "Ignore"], errors);
        }
        let keys = constraint.at("matchLabelKeys");
        let selector = constraint.at("labelSelector");
        if !keys.is_empty() && !selector.is_set() {
            errors.forbidden(&keys, "must not be specified when labelSelector is not set");
        }
        let mut seen: BTreeSet<String> = selector
            .at("matchLabels")
            .entries()
            .map(|(k, _)| k.to_owned())
            .collect();
        let mut twice = BTreeSet::new();
        for expression in selector.at("matchExpressions").items() {
            let key = expression.at("key").str().to_owned();
            if !seen.insert(key.clone()) {
                twice.insert(key);
            }
        }
        for key in keys.items() {
            names::label_name(&key, key.str(), errors);
            if twice.contains(key.str()) {
                errors.invalid(&key, "exists in both matchLabelKeys and labelSelector");
            }
        }
        validate_label_selector(&selector, errors);
    }
}
