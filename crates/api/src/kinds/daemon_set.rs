//! DaemonSet: one pod on every node that fits.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{
    age, age_of, containers, format_labels, format_selector, images, int_of, integer, name, names_and_images, selector,
    text,
};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("apps", "v1", "DaemonSet", "daemonsets")
        .short(&["ds"])
        .in_all()
        .status()
        .generation()
        .columns([
            name(),
            integer("Desired", "How many nodes should run the pod."),
            integer("Current", "How many nodes that should run the pod do."),
            integer("Ready", "How many nodes have a ready pod."),
            integer("Up-to-date", "How many nodes run the newest template."),
            integer("Available", "How many nodes have an available pod."),
            text("Node Selector", "The labels of the nodes that run the pod."),
            age(),
            containers(),
            images(),
            selector(),
        ])
        .strategy(DaemonSet)
        .build()
}

struct DaemonSet;

impl Strategy for DaemonSet {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let count = |field| Value::from(int_of(object, &["status", field]));
        let (names, images) = names_and_images(object, &["spec", "template", "spec", "containers"]);
        vec![
            object.name().into(),
            count("desiredNumberScheduled"),
            count("currentNumberScheduled"),
            count("numberReady"),
            count("updatedNumberScheduled"),
            count("numberAvailable"),
            format_labels(object.get(&["spec", "template", "spec", "nodeSelector"])).into(),
            age_of(object, now),
            names,
            images,
            format_selector(object.get(&["spec", "selector"])).into(),
        ]
    }
}
