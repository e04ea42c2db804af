//! CSINode: the storage drivers on a node.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, integer, name};
use super::check::not_empty;
use super::pod_spec::csi_driver_name;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names;
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
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let mut seen = std::collections::BTreeSet::new();
        for driver in spec.at("drivers").items() {
            let name = driver.at("name");
            csi_driver_name(&name, errors);
            if !seen.insert(name.str().to_owned()) {
                errors.duplicate(&name);
            }
            let node = driver.at("nodeID");
            not_empty(&node, errors);
            if node.str().len() > 256 {
                errors.invalid(&node, "must be 256 characters or less");
            }
            let allocatable = driver.at("allocatable");
            super::check::not_negative(&allocatable.at("count"), errors);
            for key in driver.at("topologyKeys").items() {
                if key.is_empty() {
                    errors.required(&key, "");
                }
                errors.faults(&key, names::qualified_name(key.str()));
            }
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            object.array(&["spec", "drivers"]).len().into(),
            age_of(object, now),
        ]
    }
}
