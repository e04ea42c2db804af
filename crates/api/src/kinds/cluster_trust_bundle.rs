//! ClusterTrustBundle: certificates that pods may trust.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{name, str_or, text};
use super::check::{immutable, signer_name};
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::{NameRule, Strategy};
use crate::x509;

pub(super) fn row() -> Resource {
    cluster("certificates.k8s.io", "v1", "ClusterTrustBundle", "clustertrustbundles")
        .fields(&["spec.signerName"])
        .columns([name(), text("SignerName", "The signer whose certificates these are.")])
        .strategy(ClusterTrustBundle)
        .build()
}

/// Bytes.
const LONGEST_BUNDLE: usize = 1024 * 1024;

struct ClusterTrustBundle;

impl Strategy for ClusterTrustBundle {
    /// A signer's bundles have its name in front: `example.com:client:2024`.
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        name_and_signer(object, errors);
        let spec = object.at("spec");
        anchors(&spec.at("trustBundle"), errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        name_and_signer(new, errors);
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        let bundle = spec.at("trustBundle");
        if bundle.str() != old_spec.at("trustBundle").str() {
            anchors(&bundle, errors);
        }
        immutable(&spec.at("signerName"), &old_spec.at("signerName"), errors);
    }

    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), str_or(object, &["spec", "signerName"], "<none>")]
    }
}

fn name_and_signer(object: &Cursor<'_>, errors: &mut ErrorList) {
    let (metadata, spec) = (object.at("metadata"), object.at("spec"));
    let (name, signer) = (metadata.at("name"), spec.at("signerName"));
    if signer.is_empty() {
        if name.str().contains(':') {
            errors.invalid(
                &name,
                "ClusterTrustBundle without signer name must not have \":\" in its name",
            );
        } else {
            errors.faults(&name, names::dns1123_subdomain(name.str()));
        }
        return;
    }
    let prefix = format!("{}:", signer.str().replace('/', ":"));
    match name.str().strip_prefix(&prefix) {
        Some(own) => errors.faults(&name, names::dns1123_subdomain(own)),
        None => errors.invalid(
            &name,
            format!(
                "ClusterTrustBundle for signerName {} must be named with prefix {prefix}",
                signer.str()
            ),
        ),
    }
    signer_name(&signer, errors);
}

/// Certificates in PEM, each once, and nothing else.
fn anchors(bundle: &Cursor<'_>, errors: &mut ErrorList) {
    let text = bundle.str();
    if text.len() > LONGEST_BUNDLE {
        return errors.too_long(bundle, LONGEST_BUNDLE);
    }
    let mut refuse = |detail: String| errors.invalid_value(bundle, &"<value omitted>".into(), detail);
    let blocks = x509::blocks(text);
    let mut is_fine = true;
    for (i, block) in blocks.iter().enumerate() {
        let fault = if block.kind != "CERTIFICATE" {
            format!("entry {i} has bad block type: {}", block.kind)
        } else if block.has_headers {
            format!("entry {i} has PEM block headers")
        } else {
            match x509::certificate(&block.bytes) {
                None => format!("entry {i} does not parse as X.509"),
                Some(certificate) if !certificate.is_authority => {
                    format!("entry {i} does not have the CA bit set")
                }
                Some(_) => continue,
            }
        };
        refuse(fault);
        is_fine = false;
    }
    if !is_fine {
        return;
    }
    if blocks.is_empty() {
        refuse("at least one trust anchor must be provided".to_owned());
    }
    for (i, block) in blocks.iter().enumerate() {
        let same: Vec<String> = (0..blocks.len())
            .filter(|j| blocks.get(*j) == Some(block))
            .map(|j| j.to_string())
            .collect();
        if same.len() > 1 && same.first() == Some(&i.to_string()) {
            refuse(format!("duplicate trust anchor (indices [{}])", same.join(" ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_update};
    use super::*;
    use crate::x509::tests::certificate_pem;
    use serde_json::json;

    #[test]
    fn a_bundle_has_its_signers_name_and_its_anchors_once() {
        let valid = json!({"metadata": {"name": "example.com:client:a"},
            "spec": {"signerName": "example.com/client", "trustBundle": certificate_pem(true)}});
        let (one, other) = (certificate_pem(true), certificate_pem(true));
        refuses(
            &row(),
            &valid,
            &[
                (
                    "/metadata/name",
                    json!("a"),
                    "metadata.name: Invalid value: \"a\": ClusterTrustBundle for signerName example.com/client must be \
                     named with prefix example.com:client:",
                ),
                (
                    "/spec/signerName",
                    json!(null),
                    "metadata.name: Invalid value: \"example.com:client:a\": ClusterTrustBundle without signer name must \
                     not have \":\" in its name",
                ),
                (
                    "/spec/trustBundle",
                    json!(""),
                    "spec.trustBundle: Invalid value: \"<value omitted>\": at least one trust anchor must be provided",
                ),
                (
                    "/spec/trustBundle",
                    json!(format!("{one}{other}{one}")),
                    "spec.trustBundle: Invalid value: \"<value omitted>\": duplicate trust anchor (indices [0 2])",
                ),
                (
                    "/spec/trustBundle",
                    json!("-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n"),
                    "spec.trustBundle: Invalid value: \"<value omitted>\": entry 0 has bad block type: KEY",
                ),
                (
                    "/spec/trustBundle",
                    json!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                    "spec.trustBundle: Invalid value: \"<value omitted>\": entry 0 does not parse as X.509",
                ),
                (
                    "/spec/trustBundle",
                    json!(format!("{one}{}", certificate_pem(false))),
                    "spec.trustBundle: Invalid value: \"<value omitted>\": entry 1 does not have the CA bit set",
                ),
            ],
        );
        let unsigned = json!({"metadata": {"name": "a"}, "spec": {"trustBundle": certificate_pem(true)}});
        refuses(&row(), &unsigned, &[]);
        refuses_update(
            &row(),
            &unsigned,
            &[(
                "/spec/trustBundle",
                json!("x"),
                "spec.trustBundle: Invalid value: \"<value omitted>\": at least one trust anchor must be provided",
            )],
        );
    }
}
