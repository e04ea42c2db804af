//! CertificateSigningRequest: a request for a certificate, which someone approves and a signer signs.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, condition, name, str_of, str_or, text};
use super::check::signer_name;
use super::fill::{at, each, fill, time_text};
use super::human_duration::human_duration;
use super::row::{READ_WRITE, cluster};
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::{NameRule, Strategy};
use crate::x509;

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

    /// A condition was written now, and is so since it was not so.
    fn stamp(&self, new: &mut Object, old: Option<&Object>, now: Timestamp) {
        let now = Value::from(time_text(now));
        let before = old.map_or(&[][..], |old| old.array(&["status", "conditions"]));
        let Some(status) = at(&mut new.0, "status") else { return };
        each(status, "conditions", |condition| {
            fill(condition, "lastUpdateTime", now.clone());
            let same = before.iter().find(|b| {
                ["type", "status"]
                    .iter()
                    .all(|field| b.get(*field) == condition.get(*field))
            });
            let since = same.and_then(|b| b.get("lastTransitionTime")).cloned();
            fill(condition, "lastTransitionTime", since.unwrap_or_else(|| now.clone()));
        });
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let request = spec.at("request");
        if let Err(fault) = x509::check_request(&decoded(request.str())) {
            errors.invalid(&request, fault);
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

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        conditions(new, old, errors);
        nothing_taken_back(new, old, errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        conditions(new, old, errors);
        let (status, old_status) = (new.at("status"), old.at("status"));
        let (issued, before) = (status.at("certificate"), old_status.at("certificate"));
        let is_new = issued.str() != before.str();
        // What could not be read before need not be readable now.
        if is_new
            && check_chain(before.str()).is_ok()
            && let Err(fault) = check_chain(issued.str())
        {
            errors.invalid_value(&issued, &"<certificate data>".into(), fault);
        }
        nothing_taken_back(new, old, errors);
        if is_new && !before.is_empty() {
            errors.forbidden(&issued, "updates may not modify existing certificate content");
        }
    }

    fn validate_subresource_update(&self, _name: &str, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        conditions(new, old, errors);
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

/// The text that a field holds in base64; empty if it is none.
fn decoded(text: &str) -> String {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// Whether a text in base64 is PEM of certificates and nothing else.
fn check_chain(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let pem = decoded(text);
    let blocks = x509::blocks(&pem);
    for block in &blocks {
        if block.kind != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.kind
            ));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".to_owned());
        }
        if block.bytes.is_empty() {
            return Err("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        if x509::certificate(&block.bytes).is_none() {
            return Err("x509: malformed certificate".to_owned());
        }
    }
    match blocks[..] {
        [] => Err("must contain at least one CERTIFICATE PEM block".to_owned()),
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

/// A request is approved or denied, not both, and has one condition of a type. What is wrong already may stay so.
fn conditions(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    const EXCLUSIVE: [&str; 2] = ["Approved", "Denied"];
    let (status, old_status) = (new.at("status"), old.at("status"));
    let (list, before) = (status.at("conditions"), old_status.at("conditions"));
    let types: Vec<String> = before.items().map(|c| c.at("type").str().to_owned()).collect();
    let was_both = EXCLUSIVE.iter().all(|kind| types.iter().any(|t| t == kind));
    let was_twice = types
        .iter()
        .enumerate()
        .any(|(i, t)| types.iter().take(i).any(|o| o == t));
    let was_empty = types.iter().any(String::is_empty);
    let mut seen = std::collections::BTreeSet::new();
    for condition in list.items() {
        let (kind, state) = (condition.at("type"), condition.at("status"));
        if kind.is_empty() && !was_empty {
            errors.required(&kind, "");
        }
        match (kind.str(), state.str()) {
            (_, "") => errors.required(&state, ""),
            ("Approved" | "Denied" | "Failed", "True") => {}
            ("Approved" | "Denied" | "Failed", _) => errors.not_supported(&state, &["True"]),
            (_, "True" | "False" | "Unknown") => {}
            _ => errors.not_supported(&state, &["False", "True", "Unknown"]),
        }
        if !seen.insert(kind.str().to_owned()) && !was_twice {
            errors.duplicate(&kind);
        }
    }
    if !was_both && EXCLUSIVE.iter().all(|kind| seen.contains(*kind)) {
        let members = EXCLUSIVE.map(|kind| format!("conditions[{{\"type\": \"{kind}\"}}]"));
        let shown = format!("{{{}}}", members.join(", "));
        let fault = format!("must specify at most one of: `{}`", members.join("`, `"));
        errors.invalid_value(&list, &shown.into(), fault);
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
    use super::super::check::tests::{created, refuses, refuses_status, with};
    use super::*;
    use crate::x509::tests::{certificate_pem, request};
    use serde_json::json;

    #[test]
    fn decisions_and_certificates_stay() {
        let certificate = |pem: &str| {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(pem)
        };
        let issued = certificate(&certificate_pem(false));
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
                    json!(certificate(
                        "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"
                    )),
                    "status.certificate: Invalid value: \"<certificate data>\": only CERTIFICATE PEM blocks are allowed, \
                     found \"RSA PRIVATE KEY\"",
                ),
                (
                    "/status/certificate",
                    json!(certificate(
                        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
                    )),
                    "status.certificate: Invalid value: \"<certificate data>\": x509: malformed certificate",
                ),
                (
                    "/status/certificate",
                    json!(certificate("nothing")),
                    "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM \
                     block",
                ),
                (
                    "/status/conditions/1",
                    json!({"type": "Denied", "status": "True"}),
                    "status.conditions: Invalid value: \"{conditions[{\\\"type\\\": \\\"Approved\\\"}], conditions[{\\\"type\\\": \
                     \\\"Denied\\\"}]}\": must specify at most one of: `conditions[{\"type\": \"Approved\"}]`, \
                     `conditions[{\"type\": \"Denied\"}]`",
                ),
                (
                    "/status/conditions/1",
                    json!({"type": "Approved", "status": "True"}),
                    "status.conditions[1].type: Duplicate value: \"Approved\"",
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
        let request = base64::engine::general_purpose::STANDARD.encode(request());
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
    fn a_request_is_signed_by_who_asks_and_says_what_the_certificate_is_for() {
        use base64::Engine;
        let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
        let valid = json!({"metadata": {"name": "c"}, "spec": {"request": encode(&request()),
            "usages": ["client auth"], "signerName": "example.com/client"}});
        // Two requests that have changed their signatures.
        let (one, other) = (request(), request());
        let (one, other) = (x509::blocks(&one).remove(0).bytes, x509::blocks(&other).remove(0).bytes);
        let half = one.len().min(other.len()) / 2;
        let mixed = [&one[..half], &other[other.len() - (one.len() - half)..]].concat();
        let mixed = encode(&format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            base64::engine::general_purpose::STANDARD.encode(mixed)
        ));
        let mut tampered = valid.clone();
        tampered["spec"]["request"] = json!(mixed);
        let told = created(&row(), tampered);
        assert!(told[0].starts_with("spec.request: Invalid value: "), "{told:?}");
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/spec/request",
                    json!(null),
                    "spec.request: Invalid value: null: PEM block type must be CERTIFICATE REQUEST",
                ),
                ("/spec/usages", json!([]), "spec.usages: Required value"),
                (
                    "/spec/usages/1",
                    json!("client auth"),
                    "spec.usages[1]: Duplicate value: \"client auth\"",
                ),
                (
                    "/spec/expirationSeconds",
                    json!(599),
                    "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 \
                     minutes)",
                ),
            ],
        );
    }

    #[test]
    fn a_condition_tells_since_when_it_is_so() {
        let (one, two) = ("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z");
        let csr = |conditions: Value| Object::from_value(json!({"status": {"conditions": conditions}})).unwrap();
        let mut first = csr(json!([{"type": "Approved", "status": "True"}]));
        CertificateSigningRequest.stamp(&mut first, None, one.parse().unwrap());
        let stamped = |update: &str, since: &str| json!({"type": "Approved", "status": "True", "lastUpdateTime": update, "lastTransitionTime": since});
        assert_eq!(first.array(&["status", "conditions"]), [stamped(one, one)]);
        let mut second = csr(json!([{"type": "Approved", "status": "True"}]));
        CertificateSigningRequest.stamp(&mut second, Some(&first), two.parse().unwrap());
        assert_eq!(second.array(&["status", "conditions"]), [stamped(two, one)]);
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
