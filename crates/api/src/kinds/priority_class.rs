//! PriorityClass: how important pods are to the scheduler.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, boolean, int_of, integer, name, str_of, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
        .short(&["pc"])
        .generation()
        .columns([
            name(),
            integer("Value", "The priority of the pods that name this class."),
            boolean("Global-Default", "Whether pods that name no class have this one."),
            age(),
            text("PreemptionPolicy", "Whether such pods may preempt others."),
        ])
        .strategy(PriorityClass)
        .build()
}

struct PriorityClass;

impl Strategy for PriorityClass {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            int_of(object, &["value"]).into(),
            object.bool(&["globalDefault"]).unwrap_or_default().into(),
            age_of(object, now),
            str_of(object, &["preemptionPolicy"]),
        ]
    }
}
