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
use crate::x509::{self, Curve, Key};

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
/// Bytes.
const LONGEST_REQUEST: usize = 10 * 1024;
/// Bytes.
const LONGEST_CHAIN: usize = 100 * 1024;

struct PodCertificateRequest;

impl Strategy for PodCertificateRequest {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let signer = spec.at("signerName");
        signer_name(&signer, errors);
        user_annotations(&spec.at("unverifiedUserAnnotations"), errors);
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
            None => return errors.required(&seconds, "must be set"),
            Some(n) if !(SHORTEST..=longest).contains(&n) => {
                errors.invalid(&seconds, format!("must be in the range [{SHORTEST}, {longest}]"));
            }
            Some(_) => {}
        }
        let request = spec.at("stubPKCS10Request");
        let der = bytes(&request);
        if der.len() > LONGEST_REQUEST {
            errors.too_long(&request, LONGEST_REQUEST);
        } else if let Err(fault) = x509::check_request_der(&der) {
            errors.invalid_unshown(&request, fault);
        } else if let Some((shown, fault)) = x509::requested_key_kind(&der).and_then(key_fault) {
            errors.invalid_value(&request, &shown.into(), fault);
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        immutable(&new.at("spec"), &old.at("spec"), errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        let (status, old_status) = (new.at("status"), old.at("status"));
        let list = status.at("conditions");
        let mut decisions = 0;
        for (i, condition) in list.items().enumerate() {
            // Upstream tells these places as if the index were a field.
            let index = format!("[{i}]");
            let place = list.said(&index);
            let (kind, state) = (condition.at("type"), condition.at("status"));
            if !DECISIONS.contains(&kind.str()) {
                errors.not_supported_value(&place.said("type"), &kind.str().into(), &DECISIONS);
                continue;
            }
            decisions += 1;
            if decisions > 1 {
                errors.invalid_value(
                    &place.said("type"),
                    &kind.str().into(),
                    "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"",
                );
            }
            if state.str() != "True" {
                errors.not_supported_value(&place.said("status"), &state.str().into(), &["True"]);
            }
        }
        conditions::validate(&list, errors);
        if !errors.is_empty() {
            return;
        }
        let decided = |status: &Cursor<'_>, kinds: &[&str]| {
            let conditions = status.at("conditions");
            conditions.items().any(|c| kinds.contains(&c.at("type").str()))
        };
        if decided(&old_status, &DECISIONS) {
            if !same(status.value(), old_status.value()) {
                errors.invalid_unshown(
                    &status,
                    "immutable after PodCertificateRequest is issued, denied, or failed",
                );
            }
        } else if decided(&status, &["Denied", "Failed"]) {
            let parts = ["certificateChain", "notBefore", "notAfter", "beginRefreshAt"];
            if parts.iter().any(|part| !status.at(part).is_empty()) {
                errors.invalid_unshown(
                    &status,
                    "non-condition status fields must be empty when denying or failing the PodCertificateRequest",
                );
            }
        } else if decided(&status, &["Issued"]) {
            issued(&status, &new.at("spec"), errors);
        } else if !same(status.value(), old_status.value()) {
            errors.invalid_unshown(
                &status,
                "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"",
            );
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

/// The bytes that a field holds in base64.
fn bytes(at: &Cursor<'_>) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(at.str())
        .unwrap_or_default()
}

/// What a pod's author says to the signer: annotations, each of somebody's domain.
fn user_annotations(at: &Cursor<'_>, errors: &mut ErrorList) {
    names::annotations(at, errors);
    for (key, _) in at.entries() {
        let key = key.to_ascii_lowercase();
        if !key.contains('/') && names::qualified_name(&key).is_empty() {
            let fault = "must be a domain-prefixed key (such as \"acme.io/foo\")";
            errors.invalid_value(at, &key.into(), fault);
        }
    }
}

/// How a key that certificates are not issued for is told, and why.
fn key_fault(key: Key) -> Option<(String, &'static str)> {
    match key {
        Key::Rsa { bits } => {
            let bits = bits.next_multiple_of(8);
            (!matches!(bits, 3072 | 4096)).then(|| {
                let fault = "RSA keys must have modulus size 3072 or 4096";
                (format!("{bits}-bit modulus"), fault)
            })
        }
        Key::Elliptic(Curve::P224 | Curve::Other) => Some((
            "curve".to_owned(),
            "elliptic public keys must use curve P256, P384, or P521",
        )),
        Key::Elliptic(_) | Key::Ed25519 => None,
        Key::Other => Some((
            "key".to_owned(),
            "unknown public key type; supported types are Ed25519, ECDSA, and RSA",
        )),
    }
}

/// A certificate that was issued is for the key that was asked for, and for as long as it is said.
fn issued(status: &Cursor<'_>, spec: &Cursor<'_>, errors: &mut ErrorList) {
    let chain = status.at("certificateChain");
    if chain.str().len() > LONGEST_CHAIN {
        return errors.too_long(&chain, LONGEST_CHAIN);
    }
    let blocks = x509::blocks(chain.str());
    let Some(leaf) = blocks.first() else {
        return errors.invalid_value(
            &chain,
            &chain.str().into(),
            "issued certificate chain must contain at least one certificate",
        );
    };
    if leaf.kind != "CERTIFICATE" {
        return errors.invalid(
            &chain,
            "issued certificate chain must consist entirely of CERTIFICATE PEM blocks",
        );
    }
    let Some(leaf) = x509::certificate(&leaf.bytes) else {
        return errors.invalid(&chain, "leaf certificate does not parse as valid X.509");
    };
    for name in &leaf.dns_names {
        let fault = if name.is_empty() {
            "leaf certificate should not contain empty DNSName"
        } else if name.contains("..") {
            "leaf certificate's DNSName should not contain '..'"
        } else if name.starts_with('.') || name.ends_with('.') {
            "leaf certificate's DNSName should not start or end with '.'"
        } else {
            continue;
        };
        errors.invalid_value(&chain, &name.as_str().into(), fault);
    }
    for address in leaf.mail_addresses.iter().filter(|a| !names::is_mail_address(a)) {
        errors.invalid_value(
            &chain,
            &address.as_str().into(),
            "leaf certificate should not contain invalid EmailAddress",
        );
    }
    if x509::requested_key(&bytes(&spec.at("stubPKCS10Request"))).as_ref() != Some(&leaf.public_key) {
        return errors.invalid(&chain, "leaf certificate was not issued to the requested public key");
    }
    let consistent = "must be present and consistent with the issued certificate";
    let in_range = "must be present and in the range [notbefore+10min, notafter-10min]";
    let mut time = |field, detail: &str| {
        let at = status.at(field);
        let time = at.str().parse::<Timestamp>().ok();
        if time.is_none() {
            errors.required(&at, detail);
        }
        time.map_or(0, Timestamp::as_second)
    };
    let not_before = time("notBefore", consistent);
    let not_after = time("notAfter", consistent);
    let refresh = time("beginRefreshAt", in_range);
    if !errors.is_empty() {
        return;
    }
    let longest = spec.at("maxExpirationSeconds").int();
    let lifetime = leaf.not_after - leaf.not_before;
    let margin = 600;
    let (field, detail) = if not_before != leaf.not_before {
        (
            "notBefore",
            "must be set to the NotBefore time encoded in the leaf certificate".to_owned(),
        )
    } else if not_after != leaf.not_after {
        (
            "notAfter",
            "must be set to the NotAfter time encoded in the leaf certificate".to_owned(),
        )
    } else if lifetime < SHORTEST {
        return lifetime_fault(&chain, lifetime, "leaf certificate lifetime must be >= 1 hour", errors);
    } else if lifetime > longest {
        let detail = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({longest})");
        return lifetime_fault(&chain, lifetime, &detail, errors);
    } else if refresh < not_before + margin {
        (
            "beginRefreshAt",
            "must be at least 10 minutes after status.notBefore".to_owned(),
        )
    } else if refresh > not_after - margin {
        (
            "beginRefreshAt",
            "must be at least 10 minutes before status.notAfter".to_owned(),
        )
    } else {
        return intermediates(&chain, blocks.get(1..).unwrap_or_default(), errors);
    };
    errors.invalid(&status.at(field), detail);
}

/// Upstream shows a length of time as the number of its nanoseconds.
fn lifetime_fault(chain: &Cursor<'_>, seconds: i64, detail: &str, errors: &mut ErrorList) {
    let nanoseconds = seconds.saturating_mul(1_000_000_000);
    errors.invalid_value(chain, &nanoseconds.into(), detail);
}

fn intermediates(chain: &Cursor<'_>, blocks: &[x509::Block<'_>], errors: &mut ErrorList) {
    for block in blocks {
        if block.kind != "CERTIFICATE" {
            return errors.invalid(
                chain,
                "issued certificate chain must consist entirely of CERTFICATE PEM blocks",
            );
        }
        if x509::certificate(&block.bytes).is_none() {
            return errors.invalid(chain, "intermediate certificate does not parse as valid X.509");
        }
    }
}

#[cfg(test)]
mod tests;
