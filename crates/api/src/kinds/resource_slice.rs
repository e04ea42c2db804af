//! ResourceSlice: the devices that a driver offers, on a node or to several.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("resource.k8s.io", "v1", "ResourceSlice", "resourceslices")
        .generation()
        .fields(&["spec.nodeName", "spec.driver"])
        .columns([
            name(),
            text("Node", "The node that has the devices."),
            text("Driver", "The driver that offers them."),
            text("Pool", "The pool that they belong to."),
            age(),
        ])
        .strategy(ResourceSlice)
        .build()
}

struct ResourceSlice;

impl Strategy for ResourceSlice {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            str_of(object, &["spec", "nodeName"]),
            str_of(object, &["spec", "driver"]),
            str_of(object, &["spec", "pool", "name"]),
            age_of(object, now),
        ]
    }
}
