//! CertificateSigningRequest: a request for a certificate, which someone approves and a signer signs.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, condition, name, str_of, str_or, text};
use super::human_duration::human_duration;
use super::row::{READ_WRITE, cluster};
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::{NameRule, Strategy};

pub(super) fn row() -> Resource {
    cluster(
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
    )
    .short(&["csr"])
    .subresource("approval", READ_WRITE)
    .status()
    .fields(&["spec.signerName"])
    .columns([
        name(),
        age(),
        text("SignerName", "The signer that is asked."),
        text("Requestor", "Who asks."),
        text("RequestedDuration", "How long the certificate should be valid."),
        text(
            "Condition",
            "Whether the request was approved and the certificate issued.",
        ),
    ])
    .strategy(CertificateSigningRequest)
    .build()
}

struct CertificateSigningRequest;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

impl Strategy for CertificateSigningRequest {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    /// What was asked, and by whom, stays.
    fn prepare_for_update(&self, new: &mut Object, old: &Object) {
        if let Some(spec) = old.get(&["spec"]).cloned() {
            new.set(&["spec"], spec);
        }
    }

    /// Decisions are made by `approval`, the rest of status by the signer.
    fn prepare_for_status_update(&self, new: &mut Object, old: &Object) {
        let decision = |c: &Value| matches!(c.get("type").and_then(Value::as_str), Some("Approved" | "Denied"));
        let mut conditions: Vec<Value> = old
            .array(&["status", "conditions"])
            .iter()
            .filter(|c| decision(c))
            .cloned()
            .collect();
        let others = new.array(&["status", "conditions"]).iter().filter(|c| !decision(c));
        conditions.extend(others.cloned().collect::<Vec<_>>());
        if !conditions.is_empty() {
            new.set(&["status", "conditions"], conditions);
        }
    }

    fn prepare_for_subresource_update(&self, _name: &str, new: &mut Object, old: &Object) {
        let conditions = new.get(&["status", "conditions"]).cloned();
        for part in ["spec", "status"] {
            match old.get(&[part]).cloned() {
                Some(value) => new.set(&[part], value),
                None => {
                    new.remove(&[part]);
                }
            }
        }
        if let Some(conditions) = conditions {
            new.set(&["status", "conditions"], conditions);
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let request = spec.at("request");
        if request.is_empty() {
            errors.required(&request, "");
        } else if !is_request(request.str()) {
            errors.invalid(&request, "PEM block type must be CERTIFICATE REQUEST");
        }
        let usages = spec.at("usages");
        if usages.is_empty() {
            errors.required(&usages, "");
        }
        let mut seen = std::collections::BTreeSet::new();
        for usage in usages.items() {
            if !USAGES.contains(&usage.str()) {
                errors.not_supported(&usage, &USAGES);
            }
            if !seen.insert(usage.str().to_owned()) {
                errors.duplicate(&usage);
            }
        }
        let signer = spec.at("signerName");
        if signer.is_empty() {
            errors.required(&signer, "");
        } else {
            errors.faults(&signer, names::domain_prefixed_path(signer.str()));
        }
        let seconds = spec.at("expirationSeconds");
        if seconds.i64().is_some_and(|n| n < 600) {
            errors.invalid(
                &seconds,
                "may not specify a duration less than 600 seconds (10 minutes)",
            );
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        conditions(new, errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        conditions(new, errors);
    }

    fn validate_subresource_update(&self, _name: &str, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        conditions(new, errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let duration = match object.i64(&["spec", "expirationSeconds"]) {
            None => "<none>".to_owned(),
            Some(seconds) => human_duration(seconds),
        };
        vec![
            object.name().into(),
            age_of(object, now),
            str_or(object, &["spec", "signerName"], "<none>"),
            str_of(object, &["spec", "username"]),
            duration.into(),
            state(object).into(),
        ]
    }
}

/// Whether a text in base64 is PEM whose first block is a certificate request.
fn is_request(text: &str) -> bool {
    use base64::Engine;
    let Ok(pem) = base64::engine::general_purpose::STANDARD.decode(text) else {
        return false;
    };
    let pem = String::from_utf8_lossy(&pem);
    let block = pem.lines().find_map(|line| line.strip_prefix("-----BEGIN "));
    block.is_some_and(|kind| kind.trim_end().strip_suffix("-----") == Some("CERTIFICATE REQUEST"))
}

/// A request is approved or denied, and neither is taken back.
fn conditions(csr: &Cursor<'_>, errors: &mut ErrorList) {
    let status = csr.at("status");
    let list = status.at("conditions");
    let mut seen = std::collections::BTreeSet::new();
    for condition in list.items() {
        let (kind, state) = (condition.at("type"), condition.at("status"));
        if kind.is_empty() {
            errors.required(&kind, "");
        }
        match (kind.str(), state.str()) {
            ("Approved" | "Denied" | "Failed", "True") => {}
            ("Approved" | "Denied" | "Failed", _) => errors.not_supported(&state, &["True"]),
            (_, "") => errors.required(&state, ""),
            (_, "True" | "False" | "Unknown") => {}
            _ => errors.not_supported(&state, &["False", "True", "Unknown"]),
        }
        if !seen.insert(kind.str().to_owned()) {
            errors.duplicate(&kind);
        }
    }
    if seen.contains("Approved") && seen.contains("Denied") {
        errors.invalid_value(
            &list,
            &"Denied".into(),
            "Approved and Denied conditions are mutually exclusive",
        );
    }
}

/// `Approved,Issued`
fn state(csr: &Object) -> String {
    let is = |kind| condition(csr, kind).is_some();
    let mut state = if is("Denied") {
        "Denied"
    } else if is("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if is("Failed") {
        state.push_str(",Failed");
    }
    if csr.str(&["status", "certificate"]).is_some_and(|c| !c.is_empty()) {
        state.push_str(",Issued");
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_condition_tells_decision_and_outcome() {
        let csr = |status: Value| Object::from_value(json!({"status": status})).unwrap();
        assert_eq!(state(&csr(json!({}))), "Pending");
        let approved = json!([{"type": "Approved", "status": "True"}]);
        assert_eq!(
            state(&csr(json!({"conditions": approved, "certificate": "LS0t"}))),
            "Approved,Issued"
        );
        assert_eq!(state(&csr(json!({"conditions": [{"type": "Denied"}]}))), "Denied");
    }
}
