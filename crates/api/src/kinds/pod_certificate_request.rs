//! PodCertificateRequest: a node's request for a certificate for one of its pods.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{name, str_of, text};
use super::row::namespaced;
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

struct PodCertificateRequest;

impl Strategy for PodCertificateRequest {
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
