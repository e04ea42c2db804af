//! DeviceTaintRule: a taint on every device that it selects.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::human_duration::since;
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("resource.k8s.io", "v1", "DeviceTaintRule", "devicetaintrules")
        .status()
        .generation()
        .columns([
            name(),
            text("Key", "The key of the taint."),
            text("Value", "The value of the taint."),
            text("Effect", "What the taint does to pods."),
            text("TimeAdded", "When the taint was added."),
            age(),
        ])
        .strategy(DeviceTaintRule)
        .build()
}

struct DeviceTaintRule;

impl Strategy for DeviceTaintRule {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let taint = |field| str_of(object, &["spec", "taint", field]);
        let added = since(object.get(&["spec", "taint", "timeAdded"]), now);
        vec![
            object.name().into(),
            taint("key"),
            taint("value"),
            taint("effect"),
            added.into(),
            age_of(object, now),
        ]
    }
}
