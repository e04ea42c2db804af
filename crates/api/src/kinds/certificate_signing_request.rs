//! CertificateSigningRequest: a request for a certificate, which someone approves and a signer signs.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, condition, name, str_of, str_or, text};
use super::check::signer_name;
use super::human_duration::human_duration;
use super::row::{READ_WRITE, cluster};
use crate::field::{Cursor, ErrorList};
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
        if signer.str() == "kubernetes.io/legacy-unknown" {
            errors.invalid(&signer, "the legacy signerName is not allowed via this API version");
        } else {
            signer_name(&signer, errors);
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

    fn validate_status_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        conditions(new, errors);
        let (status, old_status) = (new.at("status"), old.at("status"));
        let (issued, before) = (status.at("certificate"), old_status.at("certificate"));
        if issued.str() != before.str() {
            if let Err(fault) = is_chain(issued.str()) {
                errors.invalid_value(&issued, &"<certificate data>".into(), fault);
            }
            if !before.is_empty() {
                errors.forbidden(&issued, "updates may not modify existing certificate content");
            }
        }
        nothing_taken_back(new, old, errors);
    }

    fn validate_subresource_update(&self, _name: &str, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        conditions(new, errors);
        nothing_taken_back(new, old, errors);
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

/// Whether a text in base64 is PEM of certificates and nothing else.
fn is_chain(text: &str) -> Result<(), String> {
    use base64::Engine;
    if text.is_empty() {
        return Ok(());
    }
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_default();
    let pem = String::from_utf8_lossy(&bytes);
    let mut blocks = 0;
    for kind in pem
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("-----BEGIN "))
    {
        match kind.strip_suffix("-----") {
            Some("CERTIFICATE") => blocks += 1,
            Some(other) => return Err(format!("only CERTIFICATE PEM blocks are allowed, found {other:?}")),
            None => {}
        }
    }
    match blocks {
        0 => Err("must contain at least one CERTIFICATE PEM block".to_owned()),
        _ => Ok(()),
    }
}

/// What was decided stays decided.
fn nothing_taken_back(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let (status, old_status) = (new.at("status"), old.at("status"));
    let conditions = status.at("conditions");
    let count = |list: &Cursor<'_>, kind: &str| list.items().filter(|c| c.at("type").str() == kind).count();
    for kind in ["Approved", "Denied", "Failed"] {
        if count(&conditions, kind) < count(&old_status.at("conditions"), kind) {
            errors.forbidden(
                &conditions,
                format!("updates may not remove a condition of type {kind:?}"),
            );
        }
    }
}

/// A request is approved or denied, not both.
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
            (_, "") => errors.required(&state, ""),
            ("Approved" | "Denied" | "Failed", "True") => {}
            ("Approved" | "Denied" | "Failed", _) => errors.not_supported(&state, &["True"]),
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
    use super::super::check::tests::{refuses, refuses_status, with};
    use super::*;
    use serde_json::json;

    #[test]
    fn decisions_and_certificates_stay() {
        let certificate = |pem: &str| {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(pem)
        };
        let issued = certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let csr =
            json!({"metadata": {"name": "c"}, "status": {"conditions": [{"type": "Approved", "status": "True"}]}});
        refuses_status(
            &row(),
            &csr,
            &[
                (
                    "/status/conditions",
                    json!([]),
                    "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"",
                ),
                (
                    "/status/conditions/1",
                    json!({"type": "Failed", "status": "False"}),
                    "status.conditions[1].status: Unsupported value: \"False\": supported values: \"True\"",
                ),
                (
                    "/status/certificate",
                    json!(certificate("-----BEGIN RSA PRIVATE KEY-----")),
                    "status.certificate: Invalid value: \"<certificate data>\": only CERTIFICATE PEM blocks are allowed, \
                     found \"RSA PRIVATE KEY\"",
                ),
            ],
        );
        let csr = with(&csr, "/status/certificate", json!(issued));
        refuses_status(
            &row(),
            &csr,
            &[(
                "/status/certificate",
                json!(""),
                "status.certificate: Forbidden: updates may not modify existing certificate content",
            )],
        );
    }

    #[test]
    fn a_signer_is_a_domain_and_a_path() {
        use base64::Engine;
        let request = base64::engine::general_purpose::STANDARD.encode("-----BEGIN CERTIFICATE REQUEST-----\n");
        let valid = json!({"metadata": {"name": "c"}, "spec": {"request": request, "usages": ["client auth"],
            "signerName": "example.com/client"}});
        refuses(
            &row(),
            &valid,
            &[
                ("/spec/signerName", json!(""), "spec.signerName: Required value"),
                (
                    "/spec/signerName",
                    json!("kubernetes.io/legacy-unknown"),
                    "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed \
                     via this API version",
                ),
                (
                    "/spec/signerName",
                    json!("a.b/c/d"),
                    "spec.signerName: Invalid value: \"a.b/c/d\": must be a fully qualified domain and path of the form \
                     'example.com/signer-name'",
                ),
                (
                    "/spec/signerName",
                    json!("example/client"),
                    "spec.signerName: Invalid value: \"example\": should be a domain with at least two segments separated \
                     by dots",
                ),
            ],
        );
    }

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
