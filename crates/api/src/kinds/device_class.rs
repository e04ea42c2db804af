//! DeviceClass: a sort of devices that claims may ask for.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name};
use super::check::{is_extended_resource, same};
use super::device::claim::MOST_CONFIGURATIONS;
use super::device::{at_most, configuration, selector};
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("resource.k8s.io", "v1", "DeviceClass", "deviceclasses")
        .generation()
        .columns([name(), age()])
        .strategy(DeviceClass)
        .build()
}

struct DeviceClass;

impl Strategy for DeviceClass {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        validate_spec(&object.at("spec"), None, errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        validate_spec(&new.at("spec"), Some(&old.at("spec")), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), age_of(object, now)]
    }
}

fn validate_spec(spec: &Cursor<'_>, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
    // What is as it was is not judged by newer rules.
    let stored = |field| old.is_some_and(|old| same(spec.at(field).value(), old.at(field).value()));
    selector::validate(&spec.at("selectors"), stored("selectors"), errors);
    for config in at_most(&spec.at("config"), MOST_CONFIGURATIONS, errors) {
        configuration(&config, stored("config"), errors);
    }
    let resource = spec.at("extendedResourceName");
    if resource.is_set() && !is_extended_resource(resource.str()) {
        errors.invalid(&resource, "must be a valid extended resource name");
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{checked, refuses};
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"metadata": {"name": "gpu.example.com"}, "spec": {
            "selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com' && \
                device.attributes['gpu.example.com'].cores > 4 && \
                device.capacity['gpu.example.com'].memory.isGreaterThan(quantity('1Gi'))"}}],
            "config": [{"opaque": {"driver": "gpu.example.com", "parameters": {"mode": "fast"}}}],
            "extendedResourceName": "example.com/gpu"}})
    }

    #[test]
    fn selectors_are_typed_and_bounded_and_configurations_are_objects() {
        refuses(
            &row(),
            &valid(),
            &[
                ("/spec/selectors/0", json!({}), "spec.selectors[0].cel: Required value"),
                (
                    "/spec/selectors/0/cel/expression",
                    json!("device.driver"),
                    "spec.selectors[0].cel.expression: Invalid value: \"device.driver\": must evaluate to bool or the \
                     unknown type, not string",
                ),
                (
                    "/spec/selectors/0/cel/expression",
                    json!("devices"),
                    "spec.selectors[0].cel.expression: Invalid value: \"devices\": compilation failed: ERROR: \
                     <input>:1:1: undeclared reference to 'devices' (in container '')\n | devices\n | ^",
                ),
                (
                    "/spec/selectors/0/cel/expression",
                    json!("x".repeat(10 * 1024 + 1)),
                    "spec.selectors[0].cel.expression: Too long: may not be more than 10240 bytes",
                ),
                (
                    "/spec/selectors/0/cel/expression",
                    json!(
                        "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, \
                        device.attributes.all(d, a + b == c + d))))"
                    ),
                    "spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit",
                ),
                ("/spec/config/0", json!({}), "spec.config[0].opaque: Required value"),
                (
                    "/spec/config/0/opaque/driver",
                    json!("a_b"),
                    "spec.config[0].opaque.driver: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain must consist of \
                     lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character \
                     (e.g. 'example.com', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                ),
                (
                    "/spec/config/0/opaque/parameters",
                    json!("fast"),
                    "spec.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
                ),
                (
                    "/spec/config/0/opaque/parameters",
                    json!(null),
                    "spec.config[0].opaque.parameters: Required value",
                ),
                (
                    "/spec/extendedResourceName",
                    json!("gpu"),
                    "spec.extendedResourceName: Invalid value: \"gpu\": must be a valid extended resource name",
                ),
            ],
        );
        let many = vec![json!({"cel": {"expression": "true"}}); 33];
        refuses(
            &row(),
            &valid(),
            &[(
                "/spec/selectors",
                json!(many),
                "spec.selectors: Too many: 33: must have at most 32 items",
            )],
        );
    }

    #[test]
    fn what_is_stored_is_not_judged_again() {
        let mut old = valid();
        old["spec"]["selectors"][0]["cel"]["expression"] = json!("no longer an expression");
        old["spec"]["config"][0]["opaque"]["parameters"] = json!({"long": "x".repeat(20_000)});
        assert_eq!(checked(&row(), &old, &old), [""; 0]);
        let mut new = old.clone();
        new["spec"]["config"][0]["opaque"]["driver"] = json!("other.example.com");
        assert_eq!(
            checked(&row(), &old, &new),
            ["spec.config[0].opaque.parameters: Too long: may not be more than 10240 bytes"]
        );
    }
}
