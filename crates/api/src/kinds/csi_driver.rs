//! CSIDriver: what the cluster must know of a storage driver.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, boolean, join, name, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("storage.k8s.io", "v1", "CSIDriver", "csidrivers")
        .generation()
        .conditional_update()
        .columns([
            name(),
            boolean(
                "AttachRequired",
                "Whether volumes are attached before they are mounted.",
            ),
            boolean("PodInfoOnMount", "Whether the driver is told of the pod."),
            boolean("StorageCapacity", "Whether the driver tells how much room it has."),
            text("TokenRequests", "The audiences of the tokens that the driver gets."),
            boolean("RequiresRepublish", "Whether volumes are published again and again."),
            text("Modes", "The kinds of volumes that the driver serves."),
            age(),
        ])
        .strategy(CsiDriver)
        .build()
}

struct CsiDriver;

impl Strategy for CsiDriver {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let flag = |field, default| Value::from(object.bool(&["spec", field]).unwrap_or(default));
        let tokens = match object.get(&["spec", "tokenRequests"]).and_then(Value::as_array) {
            None => "<unset>".to_owned(),
            Some(requests) => {
                let audience = |r: &Value| r.get("audience").cloned().unwrap_or_default();
                join(&requests.iter().map(audience).collect::<Vec<_>>(), ",")
            }
        };
        let modes = join(object.array(&["spec", "volumeLifecycleModes"]), ",");
        vec![
            object.name().into(),
            flag("attachRequired", true),
            flag("podInfoOnMount", false),
            flag("storageCapacity", false),
            tokens.into(),
            flag("requiresRepublish", false),
            if modes.is_empty() {
                "<none>".into()
            } else {
                modes.into()
            },
            age_of(object, now),
        ]
    }
}
