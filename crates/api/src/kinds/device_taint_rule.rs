//! DeviceTaintRule: a taint on every device that it selects.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::conditions;
use super::device::{driver_name, label, pool_name, taint};
use super::fill::{fill, map_at, time_text};
use super::human_duration::since;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("resource.k8s.io", "v1", "DeviceTaintRule", "devicetaintrules")
        .status()
        .generation()
        .columns([
            name(),
            text("Key", "The key of the taint."),
            text("Value", "The value of the taint."),
            text("Effect", "What the taint does to pods."),
            text("TimeAdded", "When the taint was added."),
            age(),
        ])
        .strategy(DeviceTaintRule)
        .build()
}

struct DeviceTaintRule;

const MOST_CONDITIONS: usize = 8;

impl Strategy for DeviceTaintRule {
    /// The taint has its effect since it was added, or since it was changed.
    fn stamp(&self, new: &mut Object, old: Option<&Object>, now: Timestamp) {
        let part = |of: &Object, field| of.get(&["spec", "taint", field]).cloned();
        let changed = old.is_some_and(|old| {
            part(old, "effect") != part(new, "effect") && part(old, "timeAdded") == part(new, "timeAdded")
        });
        let Some(taint) = map_at(&mut new.0, &["spec", "taint"]) else {
            return;
        };
        if changed {
            taint.remove("timeAdded");
        }
        fill(taint, "timeAdded", time_text(now));
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        validate_spec(&object.at("spec"), None, errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        validate_spec(&new.at("spec"), Some(&old.at("spec")), errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        let status = new.at("status");
        let list = status.at("conditions");
        conditions::validate(&list, errors);
        if list.len() > MOST_CONDITIONS {
            errors.too_many(&list, list.len(), MOST_CONDITIONS);
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let taint = |field| str_of(object, &["spec", "taint", field]);
        let added = since(object.get(&["spec", "taint", "timeAdded"]), now);
        vec![
            object.name().into(),
            taint("key"),
            taint("value"),
            taint("effect"),
            added.into(),
            age_of(object, now),
        ]
    }
}

fn validate_spec(spec: &Cursor<'_>, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    let selector = spec.at("deviceSelector");
    let (driver, pool, device) = (selector.at("driver"), selector.at("pool"), selector.at("device"));
    if driver.is_set() {
        driver_name(&driver, errors);
    }
    if pool.is_set() {
        pool_name(&pool, errors);
    }
    if device.is_set() {
        label(&device, errors);
    }
    taint(&spec.at("taint"), old.map(|old| old.at("taint")).as_ref(), errors);
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{checked, refuses, refuses_status};
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"metadata": {"name": "r"}, "spec": {
            "deviceSelector": {"driver": "gpu.example.com", "pool": "node-1/a", "device": "gpu-0"},
            "taint": {"key": "example.com/unhealthy", "value": "yes", "effect": "NoExecute"}}})
    }

    #[test]
    fn the_selector_names_devices_and_the_taint_is_one() {
        refuses(
            &row(),
            &valid(),
            &[
                (
                    "/spec/deviceSelector/driver",
                    json!(""),
                    "spec.deviceSelector.driver: Required value",
                ),
                (
                    "/spec/deviceSelector/pool",
                    json!(""),
                    "spec.deviceSelector.pool: Required value",
                ),
                (
                    "/spec/deviceSelector/device",
                    json!("a.b"),
                    "spec.deviceSelector.device: Invalid value: \"a.b\": must not contain dots",
                ),
                ("/spec/taint/effect", json!(""), "spec.taint.effect: Required value"),
                (
                    "/spec/taint/effect",
                    json!("PreferNoSchedule"),
                    "spec.taint.effect: Unsupported value: \"PreferNoSchedule\": supported values: \"NoExecute\", \
                     \"NoSchedule\", \"None\"",
                ),
            ],
        );
        let mut old = valid();
        old["spec"]["taint"]["effect"] = json!("Older");
        assert_eq!(checked(&row(), &old, &old), [""; 0]);
    }

    #[test]
    fn a_taint_is_as_old_as_its_effect() {
        let (one, two) = ("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z");
        let added = |rule: &Object| rule.str(&["spec", "taint", "timeAdded"]).map(str::to_owned);
        let mut first = Object::from_value(valid()).unwrap();
        DeviceTaintRule.stamp(&mut first, None, one.parse().unwrap());
        assert_eq!(added(&first).as_deref(), Some(one));
        let mut same = first.clone();
        DeviceTaintRule.stamp(&mut same, Some(&first), two.parse().unwrap());
        assert_eq!(same, first);
        let mut changed = first.clone();
        changed.set(&["spec", "taint", "effect"], "NoSchedule");
        DeviceTaintRule.stamp(&mut changed, Some(&first), two.parse().unwrap());
        assert_eq!(added(&changed).as_deref(), Some(two));
    }

    #[test]
    fn there_are_few_conditions() {
        let condition = |i: usize| {
            json!({"type": format!("t{i}"), "status": "True", "reason": "R",
            "lastTransitionTime": "2024-01-01T00:00:00Z"})
        };
        let mut rule = valid();
        rule["status"] = json!({});
        refuses_status(
            &row(),
            &rule,
            &[(
                "/status/conditions",
                (0..9).map(condition).collect(),
                "status.conditions: Too many: 9: must have at most 8 items",
            )],
        );
    }
}
