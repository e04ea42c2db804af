//! What is asked and what is issued, by tables.

use super::*;
use crate::kinds::check::tests::{refuses, refuses_status, refuses_update, with};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

fn key() -> rcgen::KeyPair {
    rcgen::KeyPair::generate().unwrap()
}

/// A request that says nothing but which key it is for.
fn stub(key: &rcgen::KeyPair) -> String {
    let request = rcgen::CertificateParams::default().serialize_request(key).unwrap();
    STANDARD.encode(request.der())
}

fn valid() -> Value {
    valid_for(&key())
}

fn valid_for(key: &rcgen::KeyPair) -> Value {
    json!({"metadata": {"name": "r", "namespace": "default"}, "spec": {"signerName": "example.com/pod",
        "podName": "p", "podUID": "1", "serviceAccountName": "s", "serviceAccountUID": "2", "nodeName": "n",
        "nodeUID": "3", "maxExpirationSeconds": 86_400, "stubPKCS10Request": stub(key)}})
}

/// A request whose signature is not of its key.
fn tampered() -> String {
    let mut der = STANDARD.decode(stub(&key())).unwrap();
    let last = der.len() - 1;
    der[last] ^= 1;
    STANDARD.encode(der)
}

#[test]
fn what_is_issued_is_for_the_key_and_the_time_that_were_asked_for() {
    let condition =
        json!([{"type": "Issued", "status": "True", "reason": "R", "lastTransitionTime": "2024-01-01T00:00:00Z"}]);
    let own = key();
    let certificate = |key: &rcgen::KeyPair, hours: u32| {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = params.not_before + std::time::Duration::from_secs(u64::from(hours) * 3600);
        params.self_signed(key).unwrap().pem()
    };
    let issued = |chain: String, times: [&str; 3]| {
        json!({"conditions": condition, "certificateChain": chain, "notBefore": times[0], "notAfter": times[1],
            "beginRefreshAt": times[2]})
    };
    let pending = with(&valid_for(&own), "/status", json!({}));
    let times = ["2024-01-01T00:00:00Z", "2024-01-01T02:00:00Z", "2024-01-01T01:00:00Z"];
    let fine = with(&pending, "/status", issued(certificate(&own, 2), times));
    let mut errors = ErrorList::new();
    row()
        .strategy
        .validate_status_update(&Cursor::root(&fine, None), &Cursor::root(&pending, None), &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
    let (foreign, long) = (certificate(&key(), 2), certificate(&own, 48));
    refuses_status(
        &row(),
        &pending,
        &[
            (
                "/status",
                issued(String::new(), times),
                "status.certificateChain: Invalid value: \"\": issued certificate chain must contain at least one \
                 certificate",
            ),
            (
                "/status",
                issued(foreign.clone(), times),
                &format!(
                    "status.certificateChain: Invalid value: {foreign:?}: leaf certificate was not issued to the \
                     requested public key"
                ),
            ),
            (
                "/status",
                issued(certificate(&own, 2), [times[0], times[2], times[2]]),
                "status.notAfter: Invalid value: \"2024-01-01T01:00:00Z\": must be set to the NotAfter time encoded in \
                 the leaf certificate",
            ),
            (
                "/status",
                issued(certificate(&own, 2), [times[0], times[1], times[1]]),
                "status.beginRefreshAt: Invalid value: \"2024-01-01T02:00:00Z\": must be at least 10 minutes before \
                 status.notAfter",
            ),
            (
                "/status",
                issued(long, [times[0], "2024-01-03T00:00:00Z", times[2]]),
                "status.certificateChain: Invalid value: 172800000000000: leaf certificate lifetime must be <= \
                 spec.maxExpirationSeconds (86400)",
            ),
            (
                "/status",
                json!({"notBefore": times[0]}),
                "status: Invalid value: status is immutable unless transitioning to \"Issued\", \"Denied\", or \
                 \"Failed\"",
            ),
        ],
    );
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
            (
                "/spec/stubPKCS10Request",
                json!(null),
                "spec.stubPKCS10Request: Invalid value: x509: malformed certificate request",
            ),
            (
                "/spec/stubPKCS10Request",
                json!(tampered()),
                "spec.stubPKCS10Request: Invalid value: x509: ECDSA verification failure",
            ),
            (
                "/spec/unverifiedUserAnnotations",
                json!({"a": "b"}),
                "spec.unverifiedUserAnnotations: Invalid value: \"a\": must be a domain-prefixed key (such as \"acme.io/foo\")",
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
fn keys_are_of_the_kinds_that_certificates_are_issued_for() {
    let curves = "elliptic public keys must use curve P256, P384, or P521";
    let sizes = "RSA keys must have modulus size 3072 or 4096";
    for (key, expected) in [
        (Key::Ed25519, None),
        (Key::Elliptic(Curve::P256), None),
        (Key::Elliptic(Curve::P384), None),
        (Key::Elliptic(Curve::P521), None),
        (Key::Elliptic(Curve::P224), Some(("curve", curves))),
        (Key::Elliptic(Curve::Other), Some(("curve", curves))),
        (Key::Rsa { bits: 4096 }, None),
        (Key::Rsa { bits: 3071 }, None),
        (Key::Rsa { bits: 2048 }, Some(("2048-bit modulus", sizes))),
        (Key::Rsa { bits: 8192 }, Some(("8192-bit modulus", sizes))),
        (
            Key::Other,
            Some((
                "key",
                "unknown public key type; supported types are Ed25519, ECDSA, and RSA",
            )),
        ),
    ] {
        let found = key_fault(key);
        let found = found.as_ref().map(|(shown, fault)| (shown.as_str(), *fault));
        assert_eq!(found, expected, "{key:?}");
    }
}

#[test]
fn the_names_in_an_issued_certificate_are_well_formed() {
    let own = key();
    let pending = with(&valid_for(&own), "/status", json!({}));
    let condition =
        json!([{"type": "Issued", "status": "True", "reason": "R", "lastTransitionTime": "2024-01-01T00:00:00Z"}]);
    let issued = |names: Vec<rcgen::SanType>| {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = names;
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2024, 1, 2);
        json!({"conditions": condition, "certificateChain": params.self_signed(&own).unwrap().pem(),
            "notBefore": "2024-01-01T00:00:00Z", "notAfter": "2024-01-02T00:00:00Z",
            "beginRefreshAt": "2024-01-01T12:00:00Z"})
    };
    let dns = |name: &str| rcgen::SanType::DnsName(name.to_owned().try_into().unwrap());
    let mail = |name: &str| rcgen::SanType::Rfc822Name(name.to_owned().try_into().unwrap());
    let dots = "leaf certificate's DNSName should not start or end with '.'";
    for (names, expected) in [
        (vec![dns("example.com"), mail("a@example.com")], String::new()),
        (
            vec![dns("")],
            "\"\": leaf certificate should not contain empty DNSName".to_owned(),
        ),
        (
            vec![dns("a..b")],
            "\"a..b\": leaf certificate's DNSName should not contain '..'".to_owned(),
        ),
        (vec![dns(".a")], format!("\".a\": {dots}")),
        (vec![dns("a.")], format!("\"a.\": {dots}")),
        (
            vec![mail("nobody")],
            "\"nobody\": leaf certificate should not contain invalid EmailAddress".to_owned(),
        ),
    ] {
        let new = with(&pending, "/status", issued(names));
        let mut errors = ErrorList::new();
        row()
            .strategy
            .validate_status_update(&Cursor::root(&new, None), &Cursor::root(&pending, None), &mut errors);
        let found: Vec<String> = errors.as_slice().iter().map(ToString::to_string).collect();
        let expected = match expected.as_str() {
            "" => Vec::new(),
            fault => vec![format!("status.certificateChain: Invalid value: {fault}")],
        };
        assert_eq!(found, expected);
    }
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
                "status: Invalid value: non-condition status fields must be empty when denying or failing the \
                 PodCertificateRequest",
            ),
            (
                "/status",
                json!({"conditions": [condition("Denied"), condition("Issued")]}),
                "status.conditions.[1].type: Invalid value: \"Issued\": There may be at most one condition with type \
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
            "status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed",
        )],
    );
}
