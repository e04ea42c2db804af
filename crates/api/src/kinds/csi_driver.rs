//! CSIDriver: what the cluster must know of a storage driver.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, boolean, join, name, text};
use super::check::{immutable_at, one_of};
use super::fill::{at, fill};
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("storage.k8s.io", "v1", "CSIDriver", "csidrivers")
        .generation()
        .conditional_update()
        .columns([
            name(),
            boolean(
                "AttachRequired",
                "Whether volumes are attached before they are mounted.",
            ),
            boolean("PodInfoOnMount", "Whether the driver is told of the pod."),
            boolean("StorageCapacity", "Whether the driver tells how much room it has."),
            text("TokenRequests", "The audiences of the tokens that the driver gets."),
            boolean("RequiresRepublish", "Whether volumes are published again and again."),
            text("Modes", "The kinds of volumes that the driver serves."),
            age(),
        ])
        .strategy(CsiDriver)
        .build()
}

/// What upstream's messages call `attachRequired`.
const ATTACH: &str = "attachedRequired";

struct CsiDriver;

impl Strategy for CsiDriver {
    fn set_defaults(&self, object: &mut Object) {
        let Some(spec) = at(&mut object.0, "spec") else {
            return;
        };
        fill(spec, "attachRequired", true);
        fill(spec, "podInfoOnMount", false);
        fill(spec, "storageCapacity", false);
        fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        let modes = spec.get("volumeLifecycleModes").and_then(Value::as_array);
        if modes.is_none_or(Vec::is_empty) {
            spec.insert("volumeLifecycleModes".into(), vec![Value::from("Persistent")].into());
        }
        fill(spec, "requiresRepublish", false);
        fill(spec, "seLinuxMount", false);
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        for (field, place) in [
            ("attachRequired", ATTACH),
            ("podInfoOnMount", "podInfoOnMount"),
            ("storageCapacity", "storageCapacity"),
        ] {
            if !spec.at(field).is_set() {
                errors.required(&spec.said(place), "");
            }
        }
        one_of(
            &spec.at("fsGroupPolicy"),
            &["File", "None", "ReadWriteOnceWithFSType"],
            errors,
        );
        let mut seen = std::collections::BTreeSet::new();
        for request in spec.at("tokenRequests").items() {
            let audience = request.at("audience");
            if !seen.insert(audience.str().to_owned()) {
                errors.duplicate(&audience);
                continue;
            }
            let seconds = request.at("expirationSeconds");
            if seconds.i64().is_some_and(|n| n < 600) {
                errors.invalid(&seconds, "may not specify a duration less than 10 minutes");
            }
            if seconds.int() > 1 << 32 {
                errors.invalid(&seconds, "may not specify a duration larger than 2^32 seconds");
            }
        }
        let modes = spec.at("volumeLifecycleModes");
        for mode in modes.strs() {
            if !matches!(mode, "Persistent" | "Ephemeral") {
                errors.not_supported_value(&modes, &mode.into(), &["Persistent", "Ephemeral"]);
            }
        }
        let label = spec.at("seLinuxMount");
        if !label.is_set() {
            errors.required(&label, "");
        }
        let period = spec.at("nodeAllocatableUpdatePeriodSeconds");
        if period.i64().is_some_and(|n| n < 10) {
            errors.invalid(&period, "must be greater than or equal to 10 seconds");
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        for (field, place) in [
            ("attachRequired", ATTACH),
            ("volumeLifecycleModes", "volumeLifecycleModes"),
        ] {
            immutable_at(&spec.said(place), &spec.at(field), &old_spec.at(field), errors);
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let flag = |field, default| Value::from(object.bool(&["spec", field]).unwrap_or(default));
        let tokens = match object.get(&["spec", "tokenRequests"]).and_then(Value::as_array) {
            None => "<unset>".to_owned(),
            Some(requests) => {
                let audience = |r: &Value| r.get("audience").cloned().unwrap_or_default();
                join(&requests.iter().map(audience).collect::<Vec<_>>(), ",")
            }
        };
        let modes = join(object.array(&["spec", "volumeLifecycleModes"]), ",");
        vec![
            object.name().into(),
            flag("attachRequired", true),
            flag("podInfoOnMount", false),
            flag("storageCapacity", false),
            tokens.into(),
            flag("requiresRepublish", false),
            if modes.is_empty() {
                "<none>".into()
            } else {
                modes.into()
            },
            age_of(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_driver_gets_its_defaults_and_keeps_them() {
        let valid = json!({"metadata": {"name": "example.com"}, "spec": {}});
        assert_eq!(
            defaulted(&row(), valid.clone())["spec"],
            json!({"attachRequired": true, "podInfoOnMount": false, "storageCapacity": false, "seLinuxMount": false,
                "requiresRepublish": false, "fsGroupPolicy": "ReadWriteOnceWithFSType",
                "volumeLifecycleModes": ["Persistent"]})
        );
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec/volumeLifecycleModes",
                    json!(["X"]),
                    "spec.volumeLifecycleModes: Unsupported value: \"X\": supported values: \"Persistent\", \"Ephemeral\"",
                ),
                (
                    "/spec/tokenRequests",
                    json!([{"audience": "a"}, {"audience": "a", "expirationSeconds": 1}]),
                    "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                ),
                (
                    "/spec/nodeAllocatableUpdatePeriodSeconds",
                    json!(9),
                    "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 \
                     seconds",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid,
            &[(
                "/spec/attachRequired",
                json!(false),
                "spec.attachedRequired: Invalid value: false: field is immutable",
            )],
        );
    }
}
