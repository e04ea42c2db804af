//! PodDisruptionBudget: how many pods of a set may be evicted at a time.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, int_of, integer, name, plain, text};
use super::check::{not_negative, one_of_if_set};
use super::conditions;
use super::row::namespaced;
use super::workload::{at_most_all, int_or_percent};
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::selector::validate_label_selector;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
        .short(&["pdb"])
        .status()
        .generation()
        .conditional_update()
        .columns([
            name(),
            text("Min Available", "The minimum number of pods that must be available."),
            text("Max Unavailable", "The maximum number of pods that may be unavailable."),
            integer(
                "Allowed Disruptions",
                "Calculated number of pods that may be disrupted at this time.",
            ),
            age(),
        ])
        .strategy(PodDisruptionBudget)
        .build()
}

struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let (least, most) = (spec.at("minAvailable"), spec.at("maxUnavailable"));
        if least.is_set() && most.is_set() {
            errors.invalid(&spec, "minAvailable and maxUnavailable cannot be both set");
        }
        for bound in [&least, &most] {
            if bound.is_set() {
                int_or_percent(bound, errors);
                at_most_all(bound, errors);
            }
        }
        validate_label_selector(&spec.at("selector"), errors);
        one_of_if_set(
            &spec.at("unhealthyPodEvictionPolicy"),
            &["AlwaysAllow", "IfHealthyBudget"],
            errors,
        );
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        let status = new.at("status");
        conditions::validate(&status.at("conditions"), errors);
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            not_negative(&status.at(field), errors);
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let bound = |field| object.get(&["spec", field]).map_or_else(|| "N/A".to_owned(), plain);
        vec![
            object.name().into(),
            bound("minAvailable").into(),
            bound("maxUnavailable").into(),
            int_of(object, &["status", "disruptionsAllowed"]).into(),
            age_of(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_status};
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_whole() {
        let condition = json!({"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods",
            "lastTransitionTime": "2024-01-01T00:00:00Z"});
        let reason = crate::names::condition_reason("a b");
        refuses_status(
            &row(),
            &json!({"metadata": {"name": "b"}, "status": {"conditions": [condition]}}),
            &[
                (
                    "/status/conditions/0/reason",
                    json!(""),
                    "status.conditions[0].reason: Required value: must be set",
                ),
                (
                    "/status/conditions/0/reason",
                    json!("a b"),
                    &format!("status.conditions[0].reason: Invalid value: \"a b\": {}", reason[0]),
                ),
                (
                    "/status/conditions/0/lastTransitionTime",
                    json!(null),
                    "status.conditions[0].lastTransitionTime: Required value: must be set",
                ),
                (
                    "/status/conditions/0/status",
                    json!("Maybe"),
                    "status.conditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \
                     \"Unknown\"",
                ),
                (
                    "/status/conditions/1",
                    condition.clone(),
                    "status.conditions[1].type: Duplicate value: \"DisruptionAllowed\"",
                ),
            ],
        );
    }

    #[test]
    fn bounds_are_checked() {
        refuses(
            &row(),
            &json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {}}}),
            &[
                (
                    "/spec/maxUnavailable",
                    json!(1),
                    "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1,\"selector\":{}}: minAvailable and \
                     maxUnavailable cannot be both set",
                ),
                (
                    "/spec/minAvailable",
                    json!(-1),
                    "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
                ),
                (
                    "/spec/minAvailable",
                    json!("101%"),
                    "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
                ),
                (
                    "/spec/unhealthyPodEvictionPolicy",
                    json!("X"),
                    "spec.unhealthyPodEvictionPolicy: Unsupported value: \"X\": supported values: \"AlwaysAllow\", \
                     \"IfHealthyBudget\"",
                ),
            ],
        );
    }
}
