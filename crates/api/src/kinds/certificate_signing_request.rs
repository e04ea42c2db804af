//! CertificateSigningRequest: a request for a certificate, which someone approves and a signer signs.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, condition, name, str_of, str_or, text};
use super::human_duration::human_duration;
use super::row::{READ_WRITE, cluster};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

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

impl Strategy for CertificateSigningRequest {
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
