//! StorageClass: how volumes of one sort are made.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("storage.k8s.io", "v1", "StorageClass", "storageclasses")
        .short(&["sc"])
        .columns([
            name(),
            text("Provisioner", "Who makes the volumes."),
            text("ReclaimPolicy", "What happens to a volume when its claim is gone."),
            text("VolumeBindingMode", "When a claim is bound to a volume."),
            text("AllowVolumeExpansion", "Whether volumes may grow."),
            age(),
        ])
        .strategy(StorageClass)
        .build()
}

struct StorageClass;

impl Strategy for StorageClass {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let mut name = object.name().to_owned();
        if is_default(object) {
            name.push_str(" (default)");
        }
        vec![
            name.into(),
            str_of(object, &["provisioner"]),
            object.str(&["reclaimPolicy"]).unwrap_or("Delete").into(),
            object.str(&["volumeBindingMode"]).unwrap_or("Immediate").into(),
            object.bool(&["allowVolumeExpansion"]).unwrap_or_default().into(),
            age_of(object, now),
        ]
    }
}

fn is_default(class: &Object) -> bool {
    [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ]
    .into_iter()
    .any(|key| class.annotation(key) == Some("true"))
}
