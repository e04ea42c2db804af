//! ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding: where a policy holds, and with which parameters.

use jiff::Timestamp;
use serde_json::Value;

use super::admission_rule;
use super::cells::{age, age_of, name, selector_text, str_of, text};
use super::fill::{at, fill, map_at};
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn validating_row() -> Resource {
    shared(
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        AdmissionPolicyBinding { mutating: false },
    )
}

pub(super) fn mutating_row() -> Resource {
    shared(
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
        AdmissionPolicyBinding { mutating: true },
    )
}

fn shared(kind: &'static str, plural: &'static str, strategy: AdmissionPolicyBinding) -> Resource {
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
        .strategy(strategy)
        .build()
}

struct AdmissionPolicyBinding {
    mutating: bool,
}

impl Strategy for AdmissionPolicyBinding {
    fn set_defaults(&self, object: &mut Object) {
        let Some(spec) = map_at(&mut object.0, &["spec"]) else {
            return;
        };
        if let Some(parameter) = at(spec, "paramRef") {
            fill(parameter, "parameterNotFoundAction", "Deny");
        }
        if let Some(matched) = at(spec, "matchResources") {
            admission_rule::default_match(matched);
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let policy = spec.at("policyName");
        if policy.is_empty() {
            errors.required(&policy, "");
        } else {
            errors.faults(&policy, names::dns1123_subdomain(policy.str()));
        }
        let parameter = spec.at("paramRef");
        if parameter.is_set() {
            admission_rule::param_ref(&parameter, errors);
        }
        let matched = spec.at("matchResources");
        if matched.is_set() {
            admission_rule::match_resources(&matched, errors);
        }
        if !self.mutating {
            actions(&spec.at("validationActions"), errors);
        } else if matched.is_set() {
            admission_rule::no_deletion(&matched, errors);
        }
    }

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

/// What is done about a request that a policy is against.
fn actions(list: &Cursor<'_>, errors: &mut ErrorList) {
    let mut seen = std::collections::BTreeSet::new();
    for action in list.items() {
        if !matches!(action.str(), "Audit" | "Deny" | "Warn") {
            errors.not_supported_value(&action, &action.str().into(), &["Audit", "Deny", "Warn"]);
        }
        if !seen.insert(action.str().to_owned()) {
            errors.duplicate(&action);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        errors.invalid(
            list,
            "must not contain both Deny and Warn (repeating the same validation failure information in the API response \
             and headers serves no purpose)",
        );
    }
    if seen.is_empty() {
        errors.required(list, "at least one validation action is required");
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{created, defaulted, refuses};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_binding_is_checked() {
        let valid = json!({"metadata": {"name": "b"}, "spec": {"policyName": "replicas",
            "paramRef": {"name": "limit", "namespace": "default"}, "matchResources": {}, "validationActions": ["Deny"]}});
        let spec = &defaulted(&validating_row(), valid.clone())["spec"];
        assert_eq!(spec["paramRef"]["parameterNotFoundAction"], "Deny");
        assert_eq!(spec["matchResources"]["matchPolicy"], "Equivalent");
        refuses(
            &validating_row(),
            &valid,
            &[
                ("/spec/policyName", json!(""), "spec.policyName: Required value"),
                (
                    "/spec/paramRef",
                    json!({}),
                    "spec.paramRef: Required value: one of name or selector must be specified",
                ),
                (
                    "/spec/paramRef/parameterNotFoundAction",
                    json!("X"),
                    "spec.paramRef.parameterNotFoundAction: Unsupported value: \"X\": supported values: \"Deny\", \"Allow\"",
                ),
                (
                    "/spec/validationActions",
                    json!([]),
                    "spec.validationActions: Required value: at least one validation action is required",
                ),
                (
                    "/spec/validationActions/1",
                    json!("Deny"),
                    "spec.validationActions[1]: Duplicate value: \"Deny\"",
                ),
                (
                    "/spec/validationActions/1",
                    json!("Warn"),
                    "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn \
                     (repeating the same validation failure information in the API response and headers serves no purpose)",
                ),
            ],
        );
        let mutating = json!({"metadata": {"name": "b"}, "spec": {"policyName": "sidecar"}});
        assert_eq!(created(&mutating_row(), mutating), [""; 0]);
    }
}
