//! RuntimeClass: which container runtime runs a pod.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
        .conditional_update()
        .columns([name(), text("Handler", "The runtime's name on the node."), age()])
        .strategy(RuntimeClass)
        .build()
}

struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), str_of(object, &["handler"]), age_of(object, now)]
    }
}
