//! ReplicationController: what ReplicaSet replaced; its selector is a plain map.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, containers, format_labels, images, int_of, integer, name, names_and_images, selector};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "ReplicationController", "replicationcontrollers")
        .short(&["rc"])
        .in_all()
        .prefix("controllers")
        .scale(".spec.selector")
        .status()
        .generation()
        .fields(&["status.replicas"])
        .columns([
            name(),
            integer("Desired", "How many replicas are wanted."),
            integer("Current", "How many replicas there are."),
            integer("Ready", "How many replicas are ready."),
            age(),
            containers(),
            images(),
            selector(),
        ])
        .strategy(ReplicationController)
        .build()
}

struct ReplicationController;

impl Strategy for ReplicationController {
    fn selectable_field(&self, object: &Object, path: &str) -> String {
        match path {
            "status.replicas" => int_of(object, &["status", "replicas"]).to_string(),
            _ => String::new(),
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let (names, images) = names_and_images(object, &["spec", "template", "spec", "containers"]);
        vec![
            object.name().into(),
            int_of(object, &["spec", "replicas"]).into(),
            int_of(object, &["status", "replicas"]).into(),
            int_of(object, &["status", "readyReplicas"]).into(),
            age_of(object, now),
            names,
            images,
            format_labels(object.get(&["spec", "selector"])).into(),
        ]
    }
}
