//! PriorityClass: how important pods are to the scheduler.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, boolean, int_of, integer, name, str_of, text};
use super::check::{immutable, one_of};
use super::fill::fill;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
        .short(&["pc"])
        .generation()
        .columns([
            name(),
            integer("Value", "The priority of the pods that name this class."),
            boolean("Global-Default", "Whether pods that name no class have this one."),
            age(),
            text("PreemptionPolicy", "Whether such pods may preempt others."),
        ])
        .strategy(PriorityClass)
        .build()
}

struct PriorityClass;

/// The highest value that is not the system's.
const HIGHEST: i64 = 1_000_000_000;

/// The system's own classes and their values.
const SYSTEM: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

impl Strategy for PriorityClass {
    fn set_defaults(&self, object: &mut Object) {
        fill(&mut object.0, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let metadata = object.at("metadata");
        let name = metadata.at("name");
        let value = object.at("value");
        if name.str().starts_with("system-") {
            let system = SYSTEM.iter().find(|(known, _)| *known == name.str());
            let why = match system {
                None => Some(format!("{} is not a known system priority class", name.str())),
                Some((_, known)) if *known != value.int() => {
                    Some(format!("value of {} PriorityClass must be {known}", name.str()))
                }
                Some(_) if object.at("globalDefault").is_true() => {
                    Some(format!("globalDefault of {} PriorityClass must be false", name.str()))
                }
                Some(_) => None,
            };
            if let Some(why) = why {
                errors.forbidden(
                    &name,
                    format!(
                        "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                    ),
                );
            }
        } else if value.int() > HIGHEST {
            errors.forbidden(
                &value,
                format!("maximum allowed value of a user defined priority is {HIGHEST}"),
            );
        }
        let policy = object.at("preemptionPolicy");
        one_of(&policy, &["PreemptLowerPriority", "Never"], errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        let (value, old_value) = (new.at("value"), old.at("value"));
        if value.int() != old_value.int() {
            errors.forbidden(&value, "may not be changed in an update.");
        }
        immutable(&new.at("preemptionPolicy"), &old.at("preemptionPolicy"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            int_of(object, &["value"]).into(),
            object.bool(&["globalDefault"]).unwrap_or_default().into(),
            age_of(object, now),
            str_of(object, &["preemptionPolicy"]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_bounded_and_stay() {
        let valid = json!({"metadata": {"name": "high"}, "value": 1000});
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/value",
                    json!(1_000_000_001),
                    "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
                ),
                (
                    "/metadata/name",
                    json!("system-mine"),
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use \
                     only. error: system-mine is not a known system priority class",
                ),
                ("/preemptionPolicy", json!(""), "preemptionPolicy: Required value"),
                (
                    "/preemptionPolicy",
                    json!("X"),
                    "preemptionPolicy: Unsupported value: \"X\": supported values: \
                     \"PreemptLowerPriority\", \"Never\"",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid,
            &[
                ("/value", json!(1), "value: Forbidden: may not be changed in an update."),
                (
                    "/preemptionPolicy",
                    json!("Never"),
                    "preemptionPolicy: Invalid value: \"Never\": field is immutable",
                ),
            ],
        );
    }
}
