//! ClusterTrustBundle: certificates that pods may trust.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{name, str_or, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("certificates.k8s.io", "v1", "ClusterTrustBundle", "clustertrustbundles")
        .fields(&["spec.signerName"])
        .columns([name(), text("SignerName", "The signer whose certificates these are.")])
        .strategy(ClusterTrustBundle)
        .build()
}

struct ClusterTrustBundle;

impl Strategy for ClusterTrustBundle {
    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), str_or(object, &["spec", "signerName"], "<none>")]
    }
}
