//! CSINode: the storage drivers on a node.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, integer, name};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("storage.k8s.io", "v1", "CSINode", "csinodes")
        .conditional_update()
        .columns([
            name(),
            integer(
                "Drivers",
                "Drivers indicates the number of CSI drivers registered on the node",
            ),
            age(),
        ])
        .strategy(CsiNode)
        .build()
}

struct CsiNode;

impl Strategy for CsiNode {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            object.array(&["spec", "drivers"]).len().into(),
            age_of(object, now),
        ]
    }
}
