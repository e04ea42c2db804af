//! The status of a claim: what was allocated, who uses it, and how the devices are.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field::{Cursor, ErrorList};
use crate::kinds::check::{immutable, one_of};
use crate::kinds::conditions;
use crate::kinds::device::claim::{MOST_CONFIGURATIONS, RequestNames, reference, references};
use crate::kinds::device::{
    at_most, binding_conditions, configuration, consumer, distinct, distinct_texts, driver_name, label, pool_name, raw,
    tolerations, uid,
};
use crate::kinds::pod_spec::node_selector;
use crate::names;

const MOST_CONSUMERS: usize = 256;
const MOST_RESULTS: usize = 32;
const MOST_CONDITIONS: usize = 8;
const MOST_ADDRESSES: usize = 16;
const LONGEST_INTERFACE: usize = 256;
const LONGEST_HARDWARE_ADDRESS: usize = 128;

pub(super) fn validate(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let (status, old_status, spec) = (new.at("status"), old.at("status"), new.at("spec"));
    let known = RequestNames::of(&spec);
    let reserved = status.at("reservedFor");
    for user in at_most(&reserved, MOST_CONSUMERS, errors) {
        consumer(&user, errors);
    }
    distinct(&reserved, MOST_CONSUMERS, "uid", errors);

    let (allocation, old_allocation) = (status.at("allocation"), old_status.at("allocation"));
    let allocated: Vec<String> = allocation
        .at("devices")
        .at("results")
        .items()
        .map(|r| identity(&r))
        .collect();
    let devices = status.at("devices");
    for device in devices.items() {
        device_status(&device, &allocated, errors);
    }
    let mut seen = BTreeSet::new();
    for device in devices.items() {
        let identity = identity(&device);
        if !seen.insert(identity.clone()) {
            errors.duplicate_value(&device, &identity.into(), "");
        }
    }

    if !reserved.is_empty() && !allocation.is_set() {
        errors.forbidden(&reserved, "may not be specified when `allocated` is not set");
    } else if new.at("metadata").at("deletionTimestamp").is_set() {
        let before = old_status.at("reservedFor");
        let is_new = |user: &Cursor<'_>| before.items().all(|b| b.value() != user.value());
        if reserved.items().any(|user| is_new(&user)) {
            errors.forbidden(
                &reserved,
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
            );
        }
    }
    if allocation.is_set() && old_allocation.is_set() {
        immutable(&allocation, &old_allocation, errors);
    } else if allocation.is_set() {
        validate_allocation(&allocation, &known, errors);
    }
}

/// `driver/pool/device`, and the share of it where there is one.
fn identity(of: &Cursor<'_>) -> String {
    let mut identity = ["driver", "pool", "device"].map(|part| of.at(part).str()).join("/");
    let share = of.at("shareID");
    if share.is_set() {
        identity.push('/');
        identity.push_str(share.str());
    }
    identity
}

fn validate_allocation(allocation: &Cursor<'_>, known: &RequestNames<'_>, errors: &mut ErrorList) {
    let devices = allocation.at("devices");
    for result in at_most(&devices.at("results"), MOST_RESULTS, errors) {
        reference(&result.at("request"), known, errors);
        names_of_device(&result, errors);
        binding_conditions(&result, errors);
        tolerations(&result.at("tolerations"), errors);
        share(&result, errors);
    }
    // Of the class and of the claim.
    for config in at_most(&devices.at("config"), 2 * MOST_CONFIGURATIONS, errors) {
        one_of(&config.at("source"), &["FromClaim", "FromClass"], errors);
        references(&config.at("requests"), known, errors);
        configuration(&config, false, errors);
    }
    let nodes = allocation.at("nodeSelector");
    if nodes.is_set() {
        node_selector(&nodes, errors);
    }
}

fn names_of_device(of: &Cursor<'_>, errors: &mut ErrorList) {
    driver_name(&of.at("driver"), errors);
    pool_name(&of.at("pool"), errors);
    label(&of.at("device"), errors);
}

fn share(of: &Cursor<'_>, errors: &mut ErrorList) {
    let share = of.at("shareID");
    if share.is_set() {
        uid(&share, errors);
    }
}

fn device_status(device: &Cursor<'_>, allocated: &[String], errors: &mut ErrorList) {
    names_of_device(device, errors);
    share(device, errors);
    let identity = identity(device);
    if !allocated.contains(&identity) {
        errors.invalid_value(
            device,
            &Value::from(identity),
            "must be an allocated device in the claim",
        );
    }
    let list = device.at("conditions");
    if list.len() > MOST_CONDITIONS {
        errors.too_many(&list, list.len(), MOST_CONDITIONS);
    }
    conditions::validate(&list, errors);
    let data = device.at("data");
    if data.is_set() {
        raw(&data, false, errors);
    }
    let network = device.at("networkData");
    for (field, longest) in [
        ("interfaceName", LONGEST_INTERFACE),
        ("hardwareAddress", LONGEST_HARDWARE_ADDRESS),
    ] {
        let text = network.at(field);
        if text.str().len() > longest {
            errors.too_long(&text, longest);
        }
    }
    let addresses = network.at("ips");
    for address in at_most(&addresses, MOST_ADDRESSES, errors) {
        errors.faults(&address, names::address::interface_address(address.str()));
    }
    if addresses.len() <= MOST_ADDRESSES {
        distinct_texts(&addresses, errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kinds::check::tests::{refuses_status, with};

    fn allocated() -> serde_json::Value {
        json!({
            "metadata": {"name": "c", "namespace": "default"},
            "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {
                "deviceClassName": "gpu.example.com", "allocationMode": "ExactCount", "count": 1}}]}},
            "status": {
                "allocation": {"devices": {"results": [
                    {"request": "gpu", "driver": "gpu.example.com", "pool": "node-1", "device": "gpu-0"}]}},
                "reservedFor": [{"resource": "pods", "name": "p", "uid": "1"}],
            },
        })
    }

    const REFERENCE: &str =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

    #[test]
    fn what_is_allocated_is_checked_when_it_is_new() {
        let mut pending = allocated();
        pending["status"] = json!({});
        let status = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut status = allocated()["status"].clone();
            change(&mut status);
            status
        };
        let result = |field: &str, value: serde_json::Value| {
            status(&|s| s["allocation"]["devices"]["results"][0][field] = value.clone())
        };
        let at = "status.allocation.devices.results[0]";
        refuses_status(
            &super::super::row(),
            &pending,
            &[
                (
                    "/status",
                    json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "1"}]}),
                    "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
                ),
                (
                    "/status",
                    result("request", json!("fpga")),
                    &format!("{at}.request: Invalid value: \"fpga\": {REFERENCE}"),
                ),
                (
                    "/status",
                    result("driver", json!("")),
                    &format!("{at}.driver: Required value"),
                ),
                (
                    "/status",
                    result("pool", json!("")),
                    &format!("{at}.pool: Required value"),
                ),
                (
                    "/status",
                    result("device", json!("a.b")),
                    &format!("{at}.device: Invalid value: \"a.b\": must not contain dots"),
                ),
                (
                    "/status",
                    result("shareID", json!("1")),
                    &format!(
                        "{at}.shareID: Invalid value: \"1\": uid must be in RFC 4122 normalized form, \
                         `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters"
                    ),
                ),
                (
                    "/status",
                    result("bindingConditions", json!(["ready"])),
                    &format!(
                        "{at}.bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to \
                         use bindingConditions"
                    ),
                ),
                (
                    "/status",
                    status(&|s| {
                        s["allocation"]["devices"]["config"] = json!([{"source": "Elsewhere",
                        "opaque": {"driver": "gpu.example.com", "parameters": {}}}])
                    }),
                    "status.allocation.devices.config[0].source: Unsupported value: \"Elsewhere\": supported values: \
                     \"FromClaim\", \"FromClass\"",
                ),
                (
                    "/status",
                    status(&|s| s["allocation"]["nodeSelector"] = json!({"nodeSelectorTerms": []})),
                    "status.allocation.nodeSelector.nodeSelectorTerms: Required value: must have at least one node \
                     selector term",
                ),
            ],
        );
    }

    #[test]
    fn an_allocation_stays_and_devices_are_reported_of_it_alone() {
        let device = |change: serde_json::Value| {
            let mut device = json!({"driver": "gpu.example.com", "pool": "node-1", "device": "gpu-0"});
            for (key, value) in change.as_object().into_iter().flatten() {
                device[key] = value.clone();
            }
            json!([device])
        };
        refuses_status(
            &super::super::row(),
            &allocated(),
            &[
                (
                    "/status/allocation/devices/results/0/device",
                    json!("gpu-1"),
                    "status.allocation: Invalid value: {\"devices\":{\"results\":[{\"device\":\"gpu-1\",\"driver\":\
                     \"gpu.example.com\",\"pool\":\"node-1\",\"request\":\"gpu\"}]}}: field is immutable",
                ),
                (
                    "/status/reservedFor/1",
                    json!({"resource": "pods", "name": "q", "uid": "1"}),
                    "status.reservedFor[1]: Duplicate value: \"1\"",
                ),
                (
                    "/status/reservedFor/1",
                    json!({"resource": "pods", "name": "", "uid": "2"}),
                    "status.reservedFor[1].name: Required value",
                ),
                (
                    "/status/devices",
                    device(json!({"device": "gpu-1"})),
                    "status.devices[0]: Invalid value: \"gpu.example.com/node-1/gpu-1\": must be an allocated device in \
                     the claim",
                ),
                (
                    "/status/devices",
                    device(json!({"data": [1]})),
                    "status.devices[0].data: Invalid value: \"<value omitted>\": must be a valid JSON object",
                ),
                (
                    "/status/devices",
                    device(json!({"networkData": {"ips": ["10.9.8.0/33"]}})),
                    "status.devices[0].networkData.ips[0]: Invalid value: \"10.9.8.0/33\": must be a valid address in \
                     CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)",
                ),
                (
                    "/status/devices",
                    device(json!({"networkData": {"interfaceName": "e".repeat(257)}})),
                    "status.devices[0].networkData.interfaceName: Too long: may not be more than 256 bytes",
                ),
            ],
        );
        let going = with(
            &allocated(),
            "/metadata/deletionTimestamp",
            json!("2024-01-01T00:00:00Z"),
        );
        refuses_status(
            &super::super::row(),
            &going,
            &[(
                "/status/reservedFor/1",
                json!({"resource": "pods", "name": "q", "uid": "2"}),
                "status.reservedFor: Forbidden: new entries may not be added while `deallocationRequested` or \
                 `deletionTimestamp` are set",
            )],
        );
    }
}
