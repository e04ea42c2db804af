//! ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding: where a policy holds, and with which parameters.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, selector_text, str_of, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn validating_row() -> Resource {
    shared("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
}

pub(super) fn mutating_row() -> Resource {
    shared("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings")
}

fn shared(kind: &'static str, plural: &'static str) -> Resource {
    cluster("admissionregistration.k8s.io", "v1", kind, plural)
        .category("api-extensions")
        .generation()
        .conditional_update()
        .columns([
            name(),
            text(
                "PolicyName",
                "PolicyName indicates the policy definition which the policy binding binded to",
            ),
            text(
                "ParamRef",
                "ParamRef indicates the param resource which sets the configration param",
            ),
            age(),
        ])
        .strategy(AdmissionPolicyBinding)
        .build()
}

struct AdmissionPolicyBinding;

impl Strategy for AdmissionPolicyBinding {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let field = |name| object.str(&["spec", "paramRef", name]).unwrap_or_default();
        let selector = object.get(&["spec", "paramRef", "selector"]);
        let parameter = match (field("namespace"), field("name")) {
            (_, "") if selector.is_some() => selector_text(selector),
            (_, "") => "<unset>".to_owned(),
            ("", name) => format!("*/{name}"),
            (namespace, name) => format!("{namespace}/{name}"),
        };
        vec![
            object.name().into(),
            str_of(object, &["spec", "policyName"]),
            parameter.into(),
            age_of(object, now),
        ]
    }
}
