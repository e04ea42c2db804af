//! Deployment: replicas of one template, replaced step by step when the template changes.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, containers, images, int_of, name, names_and_images, selector, selector_text, text};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("apps", "v1", "Deployment", "deployments")
        .short(&["deploy"])
        .in_all()
        .scale(".spec.selector")
        .status()
        .generation()
        .columns([
            name(),
            text("Ready", "Number of the pod with ready state"),
            text("Up-to-date", "How many replicas have the newest template."),
            text("Available", "How many replicas have been ready for long enough."),
            age(),
            containers(),
            images(),
            selector(),
        ])
        .strategy(Deployment)
        .build()
}

struct Deployment;

impl Strategy for Deployment {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let status = |field| int_of(object, &["status", field]);
        let (names, images) = names_and_images(object, &["spec", "template", "spec", "containers"]);
        vec![
            object.name().into(),
            format!("{}/{}", status("readyReplicas"), int_of(object, &["spec", "replicas"])).into(),
            status("updatedReplicas").into(),
            status("availableReplicas").into(),
            age_of(object, now),
            names,
            images,
            selector_text(object.get(&["spec", "selector"])).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_tells_how_far_a_rollout_is() {
        let deployment = Object::from_value(json!({
            "metadata": {"name": "web", "creationTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {
                "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y"}]}},
            },
            "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1},
        }))
        .unwrap();
        assert_eq!(
            Value::from(Deployment.cells(&deployment, "2024-01-01T00:05:00Z".parse().unwrap())),
            json!(["web", "1/3", 2, 1, "5m", "a,b", "x:1,y", "app=web"])
        );
    }
}
