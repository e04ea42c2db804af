//! PodCertificateRequest: a node's request for a certificate for one of its pods.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{name, str_of, text};
use super::check::{immutable, same, signer_name};
use super::conditions;
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced(
        "certificates.k8s.io",
        "v1",
        "PodCertificateRequest",
        "podcertificaterequests",
    )
    .status()
    .fields(&["spec.signerName", "spec.podName", "spec.nodeName"])
    .columns([
        name(),
        text("PodName", "The pod that the certificate is for."),
        text("ServiceAccountName", "The pod's service account."),
        text("NodeName", "The node that the pod runs on."),
        text("SignerName", "The signer that is asked."),
        text("State", "Is the request Pending, Issued, Denied, or Failed?"),
    ])
    .strategy(PodCertificateRequest)
    .build()
}

const DECISIONS: [&str; 3] = ["Issued", "Denied", "Failed"];
/// Seconds: an hour, a day, 91 days.
const SHORTEST: i64 = 3600;
const LONGEST_OF_KUBERNETES: i64 = 86_400;
const LONGEST: i64 = 7_862_400;
/// Bytes.
const LONGEST_UID: usize = 128;

struct PodCertificateRequest;

impl Strategy for PodCertificateRequest {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let signer = spec.at("signerName");
        signer_name(&signer, errors);
        for (name, uid) in [
            ("podName", "podUID"),
            ("serviceAccountName", "serviceAccountUID"),
            ("nodeName", "nodeUID"),
        ] {
            let (name, uid) = (spec.at(name), spec.at(uid));
            for fault in names::dns1123_subdomain(name.str()) {
                errors.invalid_value(&name, &name.str().into(), fault);
            }
            if uid.is_empty() {
                errors.invalid_value(&uid, &"".into(), "must not be empty");
            }
            if uid.str().len() > LONGEST_UID {
                errors.too_long(&uid, LONGEST_UID);
            }
        }
        let seconds = spec.at("maxExpirationSeconds");
        let host = signer.str().split('/').next().unwrap_or_default();
        let longest = if host == "kubernetes.io" || host.ends_with(".kubernetes.io") {
            LONGEST_OF_KUBERNETES
        } else {
            LONGEST
        };
        match seconds.i64() {
            None => errors.required(&seconds, "must be set"),
            Some(n) if !(SHORTEST..=longest).contains(&n) => {
                errors.invalid(&seconds, format!("must be in the range [{SHORTEST}, {longest}]"));
            }
            Some(_) => {}
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        immutable(&new.at("spec"), &old.at("spec"), errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        let before = errors.len();
        let (status, old_status) = (new.at("status"), old.at("status"));
        let list = status.at("conditions");
        let mut decisions = 0;
        for condition in list.items() {
            let (kind, state) = (condition.at("type"), condition.at("status"));
            if !DECISIONS.contains(&kind.str()) {
                errors.not_supported_value(&kind, &kind.str().into(), &DECISIONS);
                continue;
            }
            decisions += 1;
            if decisions > 1 {
                errors.invalid(
                    &kind,
                    "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"",
                );
            }
            if state.str() != "True" {
                errors.not_supported_value(&state, &state.str().into(), &["True"]);
            }
        }
        conditions::validate(&list, errors);
        if errors.len() > before {
            return;
        }
        let decided = |status: &Cursor<'_>, kinds: &[&str]| {
            let conditions = status.at("conditions");
            conditions.items().any(|c| kinds.contains(&c.at("type").str()))
        };
        if decided(&old_status, &DECISIONS) {
            if !same(status.value(), old_status.value()) {
                errors.invalid(
                    &status,
                    "immutable after PodCertificateRequest is issued, denied, or failed",
                );
            }
        } else if decided(&status, &["Denied", "Failed"]) {
            let parts = ["certificateChain", "notBefore", "notAfter", "beginRefreshAt"];
            if parts.iter().any(|part| status.at(part).is_set()) {
                errors.invalid(
                    &status,
                    "non-condition status fields must be empty when denying or failing the PodCertificateRequest",
                );
            }
        }
    }

    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        let spec = |field| str_of(object, &["spec", field]);
        let state = object
            .array(&["status", "conditions"])
            .iter()
            .filter_map(|c| c.get("type")?.as_str())
            .rfind(|kind| matches!(*kind, "Issued" | "Denied" | "Failed"))
            .unwrap_or("Pending");
        vec![
            object.name().into(),
            spec("podName"),
            spec("serviceAccountName"),
            spec("nodeName"),
            spec("signerName"),
            state.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_status, refuses_update, with};
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"metadata": {"name": "r", "namespace": "default"}, "spec": {"signerName": "example.com/pod",
            "podName": "p", "podUID": "1", "serviceAccountName": "s", "serviceAccountUID": "2", "nodeName": "n",
            "nodeUID": "3", "maxExpirationSeconds": 86_400}})
    }

    #[test]
    fn a_request_is_checked_and_stays() {
        refuses(
            &row(),
            &valid(),
            &[
                (
                    "/spec/podUID",
                    json!(""),
                    "spec.podUID: Invalid value: \"\": must not be empty",
                ),
                (
                    "/spec/maxExpirationSeconds",
                    json!(60),
                    "spec.maxExpirationSeconds: Invalid value: 60: must be in the range [3600, 7862400]",
                ),
                (
                    "/spec/maxExpirationSeconds",
                    json!(null),
                    "spec.maxExpirationSeconds: Required value: must be set",
                ),
            ],
        );
        let own = with(&valid(), "/spec/signerName", json!("kubernetes.io/pod"));
        refuses(
            &row(),
            &own,
            &[(
                "/spec/maxExpirationSeconds",
                json!(86_401),
                "spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]",
            )],
        );
        refuses_update(
            &row(),
            &json!({"metadata": {"name": "r"}, "spec": {"podName": "p"}}),
            &[(
                "/spec/podName",
                json!("q"),
                "spec: Invalid value: {\"podName\":\"q\"}: field is immutable",
            )],
        );
    }

    #[test]
    fn a_decision_is_one_and_final() {
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "R", "lastTransitionTime": "2024-01-01T00:00:00Z"});
        refuses_status(
            &row(),
            &valid(),
            &[
                (
                    "/status",
                    json!({"conditions": [condition("Denied")], "certificateChain": "x"}),
                    &format!(
                        "status: Invalid value: {}: non-condition status fields must be empty when denying or failing the \
                         PodCertificateRequest",
                        json!({"conditions": [condition("Denied")], "certificateChain": "x"})
                    ),
                ),
                (
                    "/status",
                    json!({"conditions": [condition("Denied"), condition("Issued")]}),
                    "status.conditions[1].type: Invalid value: \"Issued\": There may be at most one condition with type \
                     \"Issued\", \"Denied\", or \"Failed\"",
                ),
            ],
        );
        let denied = with(&valid(), "/status", json!({"conditions": [condition("Denied")]}));
        let changed = json!({"conditions": []});
        refuses_status(
            &row(),
            &denied,
            &[(
                "/status",
                changed,
                "status: Invalid value: {\"conditions\":[]}: immutable after PodCertificateRequest is issued, denied, or \
                 failed",
            )],
        );
    }
}
