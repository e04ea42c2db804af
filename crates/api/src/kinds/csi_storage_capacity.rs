//! CSIStorageCapacity: how much room a driver has left, in one part of the cluster.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{name, plain, str_of, text};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities")
        .conditional_update()
        .columns([
            name(),
            text("StorageClassName", "The class that the room is for."),
            text("Capacity", "How much room there is."),
        ])
        .strategy(CsiStorageCapacity)
        .build()
}

struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            str_of(object, &["storageClassName"]),
            object
                .get(&["capacity"])
                .map_or_else(|| "<unset>".to_owned(), plain)
                .into(),
        ]
    }
}
