//! FlowSchema: which requests have which priority level.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, condition, int_of, name, str_of, text};
use super::check::{named_if_set, not_empty};
use super::fill::{at, fill_zero};
use super::flow_control;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas")
        .status()
        .generation()
        .columns([
            name(),
            text("PriorityLevel", "The level that the requests have."),
            text("MatchingPrecedence", "Which schema goes first; the lowest does."),
            text("DistinguisherMethod", "How flows are told apart."),
            age(),
            text(
                "MissingPL",
                "references a broken or non-existent PriorityLevelConfiguration",
            ),
        ])
        .strategy(FlowSchema)
        .build()
}

/// The greatest precedence, of what matches last.
const LAST: i64 = 10_000;

/// The fields that tell of a subject, by its kind.
const SUBJECTS: [(&str, &str); 3] = [
    ("ServiceAccount", "serviceAccount"),
    ("User", "user"),
    ("Group", "group"),
];

const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

struct FlowSchema;

impl Strategy for FlowSchema {
    fn set_defaults(&self, object: &mut Object) {
        if let Some(spec) = at(&mut object.0, "spec") {
            fill_zero(spec, "matchingPrecedence", 1000);
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let (metadata, spec) = (object.at("metadata"), object.at("spec"));
        let precedence = spec.at("matchingPrecedence");
        match precedence.int() {
            n if n <= 0 => errors.invalid_value(&precedence, &n.into(), "must be a positive value"),
            n if n > LAST => errors.invalid(&precedence, format!("must not be greater than {LAST}")),
            1 if metadata.at("name").str() != "exempt" => errors.invalid(
                &precedence,
                "only the schema named 'exempt' may have matchingPrecedence 1",
            ),
            _ => {}
        }
        let method = spec.at("distinguisherMethod");
        if method.is_set() && !matches!(method.at("type").str(), "ByNamespace" | "ByUser") {
            let shown = method.value().unwrap_or(&Value::Null);
            errors.not_supported_value(&method.at("type"), shown, &["ByNamespace", "ByUser"]);
        }
        let level = spec.at("priorityLevelConfiguration");
        let name = level.at("name");
        if name.is_empty() {
            errors.required(&name, "must reference a priority level");
        }
        named_if_set(&name, names::dns1123_subdomain, errors);
        for rule in spec.at("rules").items() {
            one_rule(&rule, errors);
        }
        flow_control::is_fixed(object, "FlowSchema", errors);
        unique_conditions(&object.at("status"), errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        unique_conditions(&new.at("status"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let dangling = condition(object, "Dangling").and_then(|c| c.get("status")?.as_str());
        vec![
            object.name().into(),
            str_of(object, &["spec", "priorityLevelConfiguration", "name"]),
            int_of(object, &["spec", "matchingPrecedence"]).into(),
            object
                .str(&["spec", "distinguisherMethod", "type"])
                .unwrap_or("<none>")
                .into(),
            age_of(object, now),
            dangling.unwrap_or("?").into(),
        ]
    }
}

/// Conditions of a status: each of some type, no two of one.
pub(super) fn unique_conditions(status: &Cursor<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for condition in status.at("conditions").items() {
        let kind = condition.at("type");
        if !seen.insert(kind.str().to_owned()) {
            errors.duplicate(&kind);
        }
        if kind.is_empty() {
            errors.required(&kind, "must not be empty");
        }
    }
}

fn one_rule(rule: &Cursor<'_>, errors: &mut ErrorList) {
    let subjects = rule.at("subjects");
    if subjects.is_empty() {
        errors.required(&subjects, "subjects must contain at least one value");
    }
    for subject in subjects.items() {
        one_subject(&subject, errors);
    }
    let (resources, urls) = (rule.at("resourceRules"), rule.at("nonResourceRules"));
    if resources.is_empty() && urls.is_empty() {
        errors.required(
            rule,
            "at least one of resourceRules and nonResourceRules has to be non-empty",
        );
    }
    for entry in resources.items() {
        resource_rule(&entry, errors);
    }
    for entry in urls.items() {
        verbs(&entry.at("verbs"), errors);
        let paths = entry.at("nonResourceURLs");
        if paths.is_empty() {
            errors.required(&paths, "nonResourceURLs must contain at least one value");
        } else if !alone_if_all(&paths, "non-resource URLs", errors) {
            for path in paths.items() {
                if let Some(fault) = path_fault(path.str()) {
                    errors.invalid_value(&path, &path.str().into(), fault);
                }
            }
        }
    }
}

fn one_subject(subject: &Cursor<'_>, errors: &mut ErrorList) {
    let kind = subject.at("kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(name, _)| *name == kind.str()) else {
        return errors.not_supported_value(&kind, &kind.str().into(), &["Group", "ServiceAccount", "User"]);
    };
    let details = subject.at(own);
    if details.is_set() {
        let name = details.at("name");
        not_empty(&name, errors);
        if *own == "serviceAccount" {
            if name.str() != "*" {
                named_if_set(&name, names::dns1123_subdomain, errors);
            }
            let namespace = details.at("namespace");
            if namespace.is_empty() {
                errors.required(&namespace, "must specify namespace for service account");
            }
            named_if_set(&namespace, names::dns1123_label, errors);
        }
    } else {
        errors.required(
            &details,
            format!("{own} is required when subject kind is '{}'", kind.str()),
        );
    }
    for (name, field) in SUBJECTS {
        if field != *own && subject.at(field).is_set() {
            errors.forbidden(
                &subject.at(field),
                format!("{field} is forbidden when subject kind is not '{name}'"),
            );
        }
    }
}

fn resource_rule(rule: &Cursor<'_>, errors: &mut ErrorList) {
    verbs(&rule.at("verbs"), errors);
    for (field, missing, others) in [
        (
            "apiGroups",
            "resource rules must supply at least one api group",
            "api groups",
        ),
        (
            "resources",
            "resource rules must supply at least one resource",
            "resources",
        ),
    ] {
        let list = rule.at(field);
        if list.is_empty() {
            errors.required(&list, missing);
        }
        alone_if_all(&list, others, errors);
    }
    let namespaces = rule.at("namespaces");
    if namespaces.is_empty() && !rule.at("clusterScope").is_true() {
        errors.required(
            &namespaces,
            "resource rules that are not cluster scoped must supply at least one namespace",
        );
    } else if !alone_if_all(&namespaces, "namespaces", errors) {
        for namespace in namespaces.items() {
            for fault in names::dns1123_label(namespace.str()) {
                errors.invalid_value(
                    &namespace,
                    &namespace.str().into(),
                    format!("each member of this list must be '*' or a DNS-1123 label; {fault}"),
                );
            }
        }
    }
}

fn verbs(list: &Cursor<'_>, errors: &mut ErrorList) {
    if list.is_empty() {
        errors.required(list, "verbs must contain at least one value");
    } else if !alone_if_all(list, "verbs", errors) && list.strs().any(|verb| !VERBS.contains(&verb)) {
        errors.not_supported(list, &VERBS);
    }
}

/// Whether a list has the wildcard, beside which nothing else may stand.
fn alone_if_all(list: &Cursor<'_>, others: &str, errors: &mut ErrorList) -> bool {
    let all = list.strs().any(|value| value == "*");
    if all && list.len() > 1 {
        errors.invalid(list, format!("if '*' is present, must not specify other {others}"));
    }
    all
}

fn path_fault(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    Some(match path {
        "" => "must not be empty",
        "/" => return None,
        _ if !path.starts_with('/') => "must start with slash",
        _ if path.contains(' ') => "must not contain white-space",
        _ if path.contains("//") => "must not contain double slash",
        _ if stars > 1 || (stars == 1 && !path.ends_with("/*")) => "wildcard can only do suffix matching",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, refuses};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_is_checked() {
        let valid = json!({"metadata": {"name": "f"}, "spec": {"priorityLevelConfiguration": {"name": "low"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": [{"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "n"}}],
                "resourceRules": [{"verbs": ["get"], "apiGroups": ["*"], "resources": ["pods"], "namespaces": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz/*"]}]}]}});
        assert_eq!(defaulted(&row(), valid.clone())["spec"]["matchingPrecedence"], 1000);
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec/matchingPrecedence",
                    json!(10_001),
                    "spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000",
                ),
                (
                    "/spec/matchingPrecedence",
                    json!(1),
                    "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have \
                     matchingPrecedence 1",
                ),
                (
                    "/spec/priorityLevelConfiguration",
                    json!({}),
                    "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
                ),
                (
                    "/spec/rules/0/subjects/0/serviceAccount",
                    json!({"name": "a"}),
                    "spec.rules[0].subjects[0].serviceAccount.namespace: Required value: must specify namespace for \
                     service account",
                ),
                (
                    "/spec/rules/0/subjects/0/user",
                    json!({"name": "a"}),
                    "spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'",
                ),
                (
                    "/spec/rules/0/resourceRules/0/verbs",
                    json!(["approve"]),
                    "spec.rules[0].resourceRules[0].verbs: Unsupported value: [\"approve\"]: supported values: \"create\", \
                     \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
                ),
                (
                    "/spec/rules/0/resourceRules/0/namespaces",
                    json!([]),
                    "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster \
                     scoped must supply at least one namespace",
                ),
                (
                    "/spec/rules/0/nonResourceRules/0/nonResourceURLs",
                    json!(["/a*"]),
                    "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"/a*\": wildcard can only do \
                     suffix matching",
                ),
            ],
        );
    }
}
