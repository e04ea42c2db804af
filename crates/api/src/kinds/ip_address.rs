//! IPAddress: one address of a service network, and whose it is.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{name, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("networking.k8s.io", "v1", "IPAddress", "ipaddresses")
        .short(&["ip"])
        .columns([name(), text("ParentRef", "The object that the address belongs to.")])
        .strategy(IpAddress)
        .build()
}

struct IpAddress;

impl Strategy for IpAddress {
    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        let parent = |field| object.str(&["spec", "parentRef", field]).unwrap_or_default();
        let mut shown = parent("resource").to_owned();
        if shown.is_empty() {
            return vec![object.name().into(), "<none>".into()];
        }
        if !parent("group").is_empty() {
            shown = format!("{shown}.{}", parent("group"));
        }
        shown = shown.to_lowercase();
        if !parent("namespace").is_empty() {
            shown = format!("{shown}/{}", parent("namespace"));
        }
        vec![object.name().into(), format!("{shown}/{}", parent("name")).into()]
    }
}
