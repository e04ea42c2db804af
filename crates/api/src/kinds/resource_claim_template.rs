//! ResourceClaimTemplate: a claim to copy for each pod.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name};
use super::check::immutable;
use super::device::claim;
use super::fill::map_at;
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::meta;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced(
        "resource.k8s.io",
        "v1",
        "ResourceClaimTemplate",
        "resourceclaimtemplates",
    )
    .columns([name(), age()])
    .strategy(ResourceClaimTemplate)
    .build()
}

struct ResourceClaimTemplate;

impl Strategy for ResourceClaimTemplate {
    fn set_defaults(&self, object: &mut Object) {
        if let Some(spec) = map_at(&mut object.0, &["spec", "spec"]) {
            claim::set_defaults(spec);
        }
    }

    fn prepare_for_create(&self, object: &mut Object) {
        if let Some(spec) = map_at(&mut object.0, &["spec", "spec"]) {
            claim::drop_not_served(spec);
        }
    }

    fn prepare_for_update(&self, new: &mut Object, _old: &Object) {
        self.prepare_for_create(new);
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        meta::validate_template(&spec.at("metadata"), errors);
        claim::validate(&spec.at("spec"), errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        immutable(&new.at("spec"), &old.at("spec"), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), age_of(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_template_is_checked_as_its_claims_are_and_stays() {
        let valid = json!({"metadata": {"name": "t"}, "spec": {"spec": {"devices": {"requests": [
            {"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]}}}});
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec/spec/devices/requests/0/exactly/count",
                    json!(-1),
                    "spec.spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero",
                ),
                (
                    "/spec/metadata",
                    json!({"labels": {"a": "-"}}),
                    "spec.metadata.labels: Invalid value: \"-\": a valid label must be an empty string or consist of \
                     alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
                     'MyValue',  or 'my_value',  or '12345', regex used for validation is \
                     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid,
            &[(
                "/spec/spec/devices",
                json!({}),
                "spec: Invalid value: {\"spec\":{\"devices\":{}}}: field is immutable",
            )],
        );
    }
}
