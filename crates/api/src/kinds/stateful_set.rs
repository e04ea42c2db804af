//! StatefulSet: replicas with a name and storage of their own each.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, containers, images, int_of, name, names_and_images, text};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("apps", "v1", "StatefulSet", "statefulsets")
        .short(&["sts"])
        .in_all()
        .scale(".spec.selector")
        .status()
        .generation()
        .columns([
            name(),
            text("Ready", "Number of the pod with ready state"),
            age(),
            containers(),
            images(),
        ])
        .strategy(StatefulSet)
        .build()
}

struct StatefulSet;

impl Strategy for StatefulSet {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let (names, images) = names_and_images(object, &["spec", "template", "spec", "containers"]);
        let ready = int_of(object, &["status", "readyReplicas"]);
        vec![
            object.name().into(),
            format!("{ready}/{}", int_of(object, &["spec", "replicas"])).into(),
            age_of(object, now),
            names,
            images,
        ]
    }
}
