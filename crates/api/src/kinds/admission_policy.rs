//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: rules on requests, written in CEL.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, integer, name, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::{Column, Resource};
use crate::strategy::Strategy;

const GROUP: &str = "admissionregistration.k8s.io";

pub(super) fn validating_row() -> Resource {
    cluster(GROUP, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies")
        .category("api-extensions")
        .status()
        .generation()
        .conditional_update()
        .columns(columns(integer(
            "Validations",
            "Validations indicates the number of validation rules defined in this configuration",
        )))
        .strategy(AdmissionPolicy { rules: "validations" })
        .build()
}

pub(super) fn mutating_row() -> Resource {
    cluster(GROUP, "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies")
        .category("api-extensions")
        .generation()
        .conditional_update()
        .columns(columns(integer(
            "Mutations",
            "Mutation indicates the number of mutations rules defined in this configuration",
        )))
        .strategy(AdmissionPolicy { rules: "mutations" })
        .build()
}

fn columns(rules: Column) -> [Column; 4] {
    [
        name(),
        rules,
        text(
            "ParamKind",
            "ParamKind specifies the kind of resources used to parameterize this policy",
        ),
        age(),
    ]
}

struct AdmissionPolicy {
    /// The field of the spec that holds the rules.
    rules: &'static str,
}

impl Strategy for AdmissionPolicy {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let parameter = |field| object.str(&["spec", "paramKind", field]);
        let kind = match parameter("kind") {
            None => "<unset>".to_owned(),
            Some(kind) => format!("{}/{kind}", parameter("apiVersion").unwrap_or_default()),
        };
        vec![
            object.name().into(),
            object.array(&["spec", self.rules]).len().into(),
            kind.into(),
            age_of(object, now),
        ]
    }
}
