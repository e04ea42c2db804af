//! FlowSchema: which requests have which priority level.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, condition, int_of, name, str_of, text};
use super::check::{not_empty, one_of};
use super::fill::{at, fill_zero};
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
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

struct FlowSchema;

impl Strategy for FlowSchema {
    fn set_defaults(&self, object: &mut Object) {
        if let Some(spec) = at(&mut object.0, "spec") {
            fill_zero(spec, "matchingPrecedence", 1000);
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let precedence = spec.at("matchingPrecedence");
        if !(1..=10_000).contains(&precedence.int()) {
            errors.invalid(&precedence, "must be a value between 1 and 10000");
        }
        let method = spec.at("distinguisherMethod");
        if method.is_set() {
            one_of(&method.at("type"), &["ByNamespace", "ByUser"], errors);
        }
        let level = spec.at("priorityLevelConfiguration");
        let name = level.at("name");
        if name.is_empty() {
            errors.required(&name, "must reference a priority level");
        }
        for rule in spec.at("rules").items() {
            let subjects = rule.at("subjects");
            if subjects.is_empty() {
                errors.required(&subjects, "subjects must contain at least one value");
            }
            for subject in subjects.items() {
                let kind = subject.at("kind");
                one_of(&kind, &["Group", "ServiceAccount", "User"], errors);
                let field = match kind.str() {
                    "Group" => "group",
                    "ServiceAccount" => "serviceAccount",
                    "User" => "user",
                    _ => continue,
                };
                let details = subject.at(field);
                if details.is_set() {
                    not_empty(&details.at("name"), errors);
                } else {
                    errors.required(
                        &details,
                        format!("{field} is required when subject kind is '{}'", kind.str()),
                    );
                }
            }
            let (resources, urls) = (rule.at("resourceRules"), rule.at("nonResourceRules"));
            if resources.is_empty() && urls.is_empty() {
                errors.required(
                    &rule,
                    "at least one of resourceRules and nonResourceRules has to be non-empty",
                );
            }
            for (list, fields) in [
                (&resources, &["verbs", "apiGroups", "resources"][..]),
                (&urls, &["verbs", "nonResourceURLs"]),
            ] {
                for entry in list.items() {
                    for field in fields {
                        let values = entry.at(field);
                        if values.is_empty() {
                            errors.required(&values, format!("{field} must contain at least one value"));
                        }
                        if values.len() > 1 && values.strs().any(|v| v == "*") {
                            errors.invalid(&values, "if '*' is present, must not specify other values");
                        }
                    }
                }
            }
        }
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
