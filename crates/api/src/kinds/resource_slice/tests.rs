use super::super::check::tests::{refuses, refuses_update, with};
use super::*;
use serde_json::json;

fn valid() -> Value {
    json!({"metadata": {"name": "s"}, "spec": {
        "driver": "gpu.example.com", "nodeName": "n", "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "gpu-0",
            "attributes": {"model": {"string": "x"}, "gpu.example.com/version": {"version": "1.2.3-rc.1+5"}},
            "capacity": {"memory": {"value": "40Gi"}},
            "taints": [{"key": "a", "effect": "NoSchedule"}]}]}})
}

fn shared(policy: Value) -> Value {
    json!({"name": "gpu-0", "allowMultipleAllocations": true,
        "capacity": {"memory": {"value": "10", "requestPolicy": policy}}})
}

#[test]
fn a_slice_says_whose_devices_these_are_and_where() {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    refuses(
        &row(),
        &valid(),
        &[
            ("/spec/driver", json!(""), "spec.driver: Required value"),
            ("/spec/pool/name", json!(""), "spec.pool.name: Required value"),
            (
                "/spec/pool/name",
                json!("x".repeat(252) + "/y"),
                "spec.pool.name: Too long: may not be more than 253 bytes",
            ),
            (
                "/spec/pool/resourceSliceCount",
                json!(0),
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            ),
            (
                "/spec/pool/generation",
                json!(-1),
                "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
            ),
            ("/spec/nodeName", json!(null), &format!("spec: Required value: {ONE}")),
            (
                "/spec/allNodes",
                json!(true),
                &format!("spec: Invalid value: \"{{`nodeName`, `allNodes`}}\": {ONE}, but multiple fields are set"),
            ),
            (
                "/spec/allNodes",
                json!(false),
                "spec.allNodes: Invalid value: false: must be either unset or set to true",
            ),
            (
                "/spec/sharedCounters",
                json!([{"name": "c", "counters": {"memory": {"value": "1"}}}]),
                "spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed",
            ),
            (
                "/spec/devices",
                (0..65)
                    .map(|i| json!({"name": format!("d{i}"), "taints": [{"key": "a", "effect": "NoSchedule"}]}))
                    .collect(),
                "spec.devices: Too many: 65: must have at most 64 items",
            ),
            (
                "/spec/devices",
                (0..129).map(|i| json!({"name": format!("d{i}")})).collect(),
                "spec.devices: Too many: 129: must have at most 128 items",
            ),
            (
                "/spec/devices/1",
                json!({"name": "gpu-0"}),
                "spec.devices[1]: Duplicate value: \"gpu-0\"",
            ),
        ],
    );
    refuses_update(
        &row(),
        &valid(),
        &[
            (
                "/spec/pool/name",
                json!("m"),
                "spec.pool.name: Invalid value: \"m\": field is immutable",
            ),
            (
                "/spec/driver",
                json!("other.example.com"),
                "spec.driver: Invalid value: \"other.example.com\": field is immutable",
            ),
            (
                "/spec/nodeName",
                json!("m"),
                "spec.nodeName: Invalid value: \"m\": field is immutable",
            ),
        ],
    );
}

#[test]
fn a_device_has_attributes_of_one_value_each() {
    let at = "spec.devices[0]";
    refuses(
        &row(),
        &valid(),
        &[
            (
                "/spec/devices/0/name",
                json!("a.b"),
                &format!("{at}.name: Invalid value: \"a.b\": must not contain dots"),
            ),
            (
                "/spec/devices/0/attributes/model",
                json!({}),
                &format!("{at}.attributes[model]: Invalid value: \"\": exactly one value must be specified"),
            ),
            (
                "/spec/devices/0/attributes/model",
                json!({"string": "x", "bool": true}),
                &format!(
                    "{at}.attributes[model]: Invalid value: {{\"bool\":true,\"string\":\"x\"}}: exactly one value must be \
                     specified"
                ),
            ),
            // A list of values is not served: what is left has none.
            (
                "/spec/devices/0/attributes/model",
                json!({"strings": ["x"]}),
                &format!("{at}.attributes[model]: Invalid value: \"\": exactly one value must be specified"),
            ),
            (
                "/spec/devices/0/attributes/model",
                json!({"string": "x".repeat(65)}),
                &format!("{at}.attributes[model].string: Too long: may not be more than 64 bytes"),
            ),
            (
                "/spec/devices/0/attributes/model",
                json!({"version": "1.2"}),
                &format!(
                    "{at}.attributes[model].version: Invalid value: \"1.2\": must be a string compatible with semver.org \
                     spec 2.0.0"
                ),
            ),
            (
                "/spec/devices/0/attributes",
                json!({"a/b/c": {"bool": true}}),
                &format!("{at}.attributes: Invalid value: \"a/b/c\": must not contain more than one slash"),
            ),
            (
                "/spec/devices/0/attributes/1a",
                json!({"bool": true}),
                &format!(
                    "{at}.attributes: Invalid value: \"1a\": a valid C identifier must start with alphabetic character or \
                     '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or \
                     'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')"
                ),
            ),
            (
                "/spec/devices/0/attributes",
                (0..32)
                    .map(|i| (format!("a{i}"), json!({"int": i})))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
                &format!("{at}: Invalid value: 33: the total number of attributes and capacities must not exceed 32"),
            ),
            (
                "/spec/devices/0/allNodes",
                json!(true),
                &format!(
                    "{at}: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if \
                     `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
                ),
            ),
            (
                "/spec/devices/0/consumesCounters",
                json!([{"counterSet": "c"}]),
                &format!("{at}.consumesCounters[0].counters: Required value"),
            ),
            (
                "/spec/devices/0/capacity/memory/requestPolicy",
                json!({"default": "1Gi"}),
                &format!("{at}.capacity[memory].requestPolicy: Forbidden: allowMultipleAllocations must be true"),
            ),
        ],
    );
    let mut each = valid();
    each["spec"].as_object_mut().unwrap().remove("nodeName");
    each["spec"]["perDeviceNodeSelection"] = json!(true);
    each["spec"]["devices"][0]["nodeName"] = json!("n");
    let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to \
               true in the ResourceSlice spec";
    refuses(
        &row(),
        &each,
        &[
            (
                "/spec/devices/0/nodeName",
                json!(null),
                &format!("{at}: Required value: {one}"),
            ),
            (
                "/spec/devices/0/allNodes",
                json!(true),
                &format!("{at}: Invalid value: \"{{`nodeName`, `allNodes`}}\": {one}"),
            ),
        ],
    );
}

#[test]
fn shared_capacity_is_given_in_values_that_fit() {
    let valid = with(
        &valid(),
        "/spec/devices/0",
        shared(json!({"default": "2", "validValues": ["1", "2", "4"]})),
    );
    let at = "spec.devices[0].capacity[memory].requestPolicy";
    refuses(
        &row(),
        &valid,
        &[
            (
                "/spec/devices/0",
                shared(json!({"validValues": ["1"]})),
                &format!("{at}.default: Required value: required when validValues is defined"),
            ),
            (
                "/spec/devices/0",
                shared(json!({"default": "1", "validValues": ["1"], "validRange": {"min": "1"}})),
                &format!(
                    "{at}: Forbidden: exactly one policy can be specified, cannot specify \"validValues\" and \
                     \"validRange\" at the same time"
                ),
            ),
            (
                "/spec/devices/0",
                shared(json!({"default": "3", "validValues": ["1", "2"]})),
                &format!(
                    "{at}.validValues: Invalid value: \"3\": default value is not valid according to the requestPolicy"
                ),
            ),
            (
                "/spec/devices/0",
                shared(json!({"default": "1", "validValues": ["2", "1"]})),
                &format!("{at}.validValues[1]: Invalid value: \"1\": values must be sorted in ascending order"),
            ),
            (
                "/spec/devices/0",
                shared(json!({"default": "1", "validValues": ["1", "11"]})),
                &format!("{at}.validValues[1]: Invalid value: \"11\": option is larger than capacity value: 10"),
            ),
            (
                "/spec/devices/0",
                shared(json!({"default": "1", "validRange": {}})),
                &format!("{at}.validRange.min: Required value: required when validRange is defined"),
            ),
            (
                "/spec/devices/0",
                shared(json!({"default": "1", "validRange": {"min": "2"}})),
                &format!("{at}.validRange.default: Invalid value: \"1\": default is less than min: 2"),
            ),
            (
                "/spec/devices/0",
                shared(json!({"default": "2", "validRange": {"min": "2", "max": "11"}})),
                &format!("{at}.validRange.max: Invalid value: \"11\": max is larger than capacity value: 10"),
            ),
            (
                "/spec/devices/0",
                shared(json!({"default": "2", "validRange": {"min": "2", "step": "0"}})),
                &format!("{at}.validRange.step: Invalid value: \"0\": must be greater than zero"),
            ),
            (
                "/spec/devices/0",
                shared(json!({"default": "3", "validRange": {"min": "2", "step": "2"}})),
                &format!(
                    "{at}.validRange.step: Invalid value: \"3\": value is not a multiple of a given step (2) from (2)"
                ),
            ),
            (
                "/spec/devices/0",
                shared(json!({"default": "750m", "validRange": {"min": "500m", "step": "500m"}})),
                &format!(
                    "{at}.validRange.step: Invalid value: \"750m\": value is not a multiple of a given step (500m) from \
                     (500m)"
                ),
            ),
            (
                "/spec/devices/0",
                shared(json!({"default": "1", "validRange": {"min": "1u", "step": "1"}})),
                &format!("{at}.validRange.min: Invalid value: \"1u\": value cannot be represented as a milli value"),
            ),
        ],
    );
}

#[test]
fn partitions_are_told_apart_by_an_attribute_of_each() {
    let mut valid = valid();
    valid["spec"]["partitionTypeAttribute"] = json!("gpu.example.com/profile");
    valid["spec"]["devices"] = json!([{"name": "gpu-0", "attributes": {"profile": {"string": "half"}},
        "consumesCounters": [{"counterSet": "c", "counters": {"memory": {"value": "1"}}}]}]);
    let at = "spec.devices[0].attributes[gpu.example.com/profile]";
    refuses(
        &row(),
        &valid,
        &[
            (
                "/spec/devices/0/attributes",
                json!({}),
                &format!(
                    "{at}: Required value: device consumes counters and `partitionTypeAttribute` names this attribute, so it \
                     must be set"
                ),
            ),
            (
                "/spec/devices/0/attributes/profile",
                json!({"int": 2}),
                &format!(
                    "{at}: Invalid value: {{\"int\":2}}: must be a string value because `partitionTypeAttribute` names this \
                     attribute"
                ),
            ),
            (
                "/spec/devices/0/consumesCounters",
                json!(null),
                "spec.partitionTypeAttribute: Invalid value: \"gpu.example.com/profile\": may only be set on a slice which \
                 declares devices that consume counters",
            ),
        ],
    );
}
