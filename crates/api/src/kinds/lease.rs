//! Lease: who holds something, until when.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::check::not_negative;
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("coordination.k8s.io", "v1", "Lease", "leases")
        .create_on_update()
        .conditional_update()
        .columns([name(), text("Holder", "Who holds the lease."), age()])
        .strategy(Lease)
        .build()
}

struct Lease;

impl Strategy for Lease {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let duration = spec.at("leaseDurationSeconds");
        if duration.i64().is_some_and(|seconds| seconds <= 0) {
            errors.invalid(&duration, "must be greater than 0");
        }
        not_negative(&spec.at("leaseTransitions"), errors);
        let strategy = spec.at("strategy");
        if strategy.is_set() {
            // Upstream names the field twice.
            let place = strategy.said("strategy");
            if strategy.str().contains('/') {
                names::label_name(&place, strategy.str(), errors);
            } else if strategy.str() != "OldestEmulationVersion" {
                errors.not_supported_value(&place, &strategy.str().into(), &["OldestEmulationVersion"]);
            }
        }
        let preferred = spec.at("preferredHolder");
        if !preferred.is_empty() && strategy.is_empty() {
            errors.forbidden(&preferred, "may only be specified when `strategy` is defined");
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            str_of(object, &["spec", "holderIdentity"]),
            age_of(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::refuses;
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_checked() {
        refuses(
            &row(),
            &json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}),
            &[
                (
                    "/spec/leaseDurationSeconds",
                    json!(0),
                    "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                ),
                (
                    "/spec/leaseTransitions",
                    json!(-1),
                    "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
                ),
                (
                    "/spec/strategy",
                    json!("Youngest"),
                    "spec.strategy.strategy: Unsupported value: \"Youngest\": supported values: \"OldestEmulationVersion\"",
                ),
                (
                    "/spec/strategy",
                    json!("/youngest"),
                    "spec.strategy.strategy: Invalid value: \"/youngest\": prefix part must be non-empty",
                ),
                (
                    "/spec/preferredHolder",
                    json!("b"),
                    "spec.preferredHolder: Forbidden: may only be specified when `strategy` is defined",
                ),
            ],
        );
    }
}
