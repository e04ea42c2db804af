//! ResourceClaim: a request for devices, and what was allocated to it.

mod status;

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, text};
use super::check::immutable;
use super::device::claim;
use super::fill::{at, each, map_at};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims")
        .status()
        .columns([
            name(),
            text(
                "State",
                "A summary of the current state (allocated, pending, reserved, etc.).",
            ),
            age(),
        ])
        .strategy(ResourceClaim)
        .build()
}

struct ResourceClaim;

impl Strategy for ResourceClaim {
    fn set_defaults(&self, object: &mut Object) {
        if let Some(spec) = at(&mut object.0, "spec") {
            claim::set_defaults(spec);
        }
    }

    fn prepare_for_create(&self, object: &mut Object) {
        if let Some(spec) = at(&mut object.0, "spec") {
            claim::drop_not_served(spec);
        }
    }

    fn prepare_for_update(&self, new: &mut Object, _old: &Object) {
        self.prepare_for_create(new);
    }

    fn prepare_for_status_update(&self, new: &mut Object, _old: &Object) {
        if let Some(devices) = map_at(&mut new.0, &["status", "allocation", "devices"]) {
            each(devices, "results", |result| {
                result.remove("skipNodeOperations");
            });
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        claim::validate(&object.at("spec"), errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        immutable(&new.at("spec"), &old.at("spec"), errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        status::validate(new, old, errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let allocated = object.get(&["status", "allocation"]).is_some();
        let reserved = allocated && !object.array(&["status", "reservedFor"]).is_empty();
        let states: Vec<&str> = [
            (object.is_terminating(), "deleted"),
            (!allocated && !object.is_terminating(), "pending"),
            (allocated, "allocated"),
            (reserved, "reserved"),
        ]
        .into_iter()
        .filter_map(|(holds, state)| holds.then_some(state))
        .collect();
        vec![object.name().into(), states.join(",").into(), age_of(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{defaulted, prepared, refuses, refuses_update};
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {"devices": {
            "requests": [
                {"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com", "tolerations": [{"key": "a"}]}},
                {"name": "nic", "firstAvailable": [
                    {"name": "fast", "deviceClassName": "fast.example.com"},
                    {"name": "slow", "deviceClassName": "slow.example.com", "allocationMode": "All"}]},
            ],
            "constraints": [{"requests": ["gpu", "nic/fast"], "matchAttribute": "example.com/numa"}],
            "config": [{"requests": ["nic"], "opaque": {"driver": "nic.example.com", "parameters": {}}}],
        }}})
    }

    const REFERENCE: &str =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

    #[test]
    fn a_request_is_for_one_device_unless_it_says_otherwise() {
        let claim = defaulted(&row(), valid());
        let exactly = &claim["spec"]["devices"]["requests"][0]["exactly"];
        assert_eq!(
            (&exactly["allocationMode"], &exactly["count"]),
            (&json!("ExactCount"), &json!(1))
        );
        assert_eq!(exactly["tolerations"][0]["operator"], "Equal");
        let slow = &claim["spec"]["devices"]["requests"][1]["firstAvailable"][1];
        assert_eq!((&slow["allocationMode"], slow.get("count")), (&json!("All"), None));
        // What is not served is as if it were not said.
        let mut derived = valid();
        derived["spec"]["devices"]["requests"][0]["exactly"]["derivedAttributes"] = json!([{"name": "a"}]);
        assert_eq!(prepared(&row(), derived), prepared(&row(), valid()));
    }

    #[test]
    fn what_a_claim_asks_for_is_checked() {
        let at = "spec.devices.requests[0]";
        refuses(
            &row(),
            &valid(),
            &[
                (
                    "/spec/devices/requests/0",
                    json!({"name": "gpu"}),
                    &format!("{at}: Required value: exactly one of `exactly` or `firstAvailable` is required"),
                ),
                (
                    "/spec/devices/requests/0/firstAvailable",
                    json!([{"name": "a", "deviceClassName": "b"}]),
                    &format!(
                        "{at}: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple \
                         fields are set"
                    ),
                ),
                (
                    "/spec/devices/requests/0/exactly/deviceClassName",
                    json!(""),
                    &format!("{at}.exactly.deviceClassName: Required value"),
                ),
                (
                    "/spec/devices/requests/0/exactly/allocationMode",
                    json!("Some"),
                    &format!(
                        "{at}.exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\""
                    ),
                ),
                (
                    "/spec/devices/requests/0/exactly/selectors",
                    json!([{"cel": {"expression": "cel.bind(d, device.attributes['a.b'], d.x)"}}, {"cel": {
                        "expression": "1"}}]),
                    &format!(
                        "{at}.exactly.selectors[1].cel.expression: Invalid value: \"1\": must evaluate to bool or the \
                         unknown type, not int"
                    ),
                ),
                (
                    "/spec/devices/requests/0/exactly/tolerations/0",
                    json!({"operator": "Exists", "value": "x"}),
                    &format!(
                        "{at}.exactly.tolerations[0].value: Invalid value: \"x\": must be empty for operator `Exists`"
                    ),
                ),
                (
                    "/spec/devices/requests/1/firstAvailable/1/count",
                    json!(2),
                    "spec.devices.requests[1].firstAvailable[1].count: Invalid value: 2: must not be specified when \
                     allocationMode is 'All'",
                ),
                (
                    "/spec/devices/requests/1/firstAvailable/1/name",
                    json!("fast"),
                    "spec.devices.requests[1].firstAvailable[1]: Duplicate value: \"fast\"",
                ),
                (
                    "/spec/devices/requests/2",
                    json!({"name": "gpu", "exactly": {"deviceClassName": "a"}}),
                    "spec.devices.requests[2]: Duplicate value: \"gpu\"",
                ),
                (
                    "/spec/devices/constraints/0/requests",
                    json!(["nic/medium"]),
                    &format!("spec.devices.constraints[0].requests[0]: Invalid value: \"nic/medium\": {REFERENCE}"),
                ),
                (
                    "/spec/devices/constraints/0/requests",
                    json!(["a/b/c"]),
                    &format!("spec.devices.constraints[0].requests[0]: Invalid value: \"a/b/c\": {REFERENCE}"),
                ),
                (
                    "/spec/devices/constraints/0/matchAttribute",
                    json!("numa"),
                    "spec.devices.constraints[0].matchAttribute: Invalid value: \"numa\": a fully qualified name must be a \
                     domain and a name separated by a slash",
                ),
                (
                    "/spec/devices/config/0/requests/1",
                    json!("nic"),
                    "spec.devices.config[0].requests[1]: Duplicate value: \"nic\"",
                ),
                (
                    "/spec/devices/requests",
                    (0..33)
                        .map(|i| json!({"name": format!("r{i}"), "exactly": {"deviceClassName": "a"}}))
                        .chain([
                            json!({"name": "gpu"}),
                            json!({"name": "nic", "firstAvailable": [{"name": "fast"}]}),
                        ])
                        .collect(),
                    "spec.devices.requests: Too many: 35: must have at most 32 items",
                ),
            ],
        );
        let mut changed = defaulted(&row(), valid());
        changed["spec"]["devices"]["config"] = json!([]);
        refuses_update(
            &row(),
            &valid(),
            &[(
                "/spec/devices/config",
                json!([]),
                &format!("spec: Invalid value: {}: field is immutable", changed["spec"]),
            )],
        );
    }
}
