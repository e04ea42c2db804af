//! ResourceClaim: a request for devices, and what was allocated to it.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, text};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims")
        .status()
        .columns([
            name(),
            text(
                "State",
                "A summary of the current state (allocated, pending, reserved, etc.).",
            ),
            age(),
        ])
        .strategy(ResourceClaim)
        .build()
}

struct ResourceClaim;

impl Strategy for ResourceClaim {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let allocated = object.get(&["status", "allocation"]).is_some();
        let reserved = allocated && !object.array(&["status", "reservedFor"]).is_empty();
        let states: Vec<&str> = [
            (object.is_terminating(), "deleted"),
            (!allocated && !object.is_terminating(), "pending"),
            (allocated, "allocated"),
            (reserved, "reserved"),
        ]
        .into_iter()
        .filter_map(|(holds, state)| holds.then_some(state))
        .collect();
        vec![object.name().into(), states.join(",").into(), age_of(object, now)]
    }
}
