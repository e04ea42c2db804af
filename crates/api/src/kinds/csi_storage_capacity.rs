//! CSIStorageCapacity: how much room a driver has left, in one part of the cluster.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{name, plain, str_of, text};
use super::check::{immutable, quantity_of};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::selector::validate_label_selector;
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
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        validate_label_selector(&object.at("nodeTopology"), errors);
        let class = object.at("storageClassName");
        for fault in names::dns1123_subdomain(class.str()) {
            errors.invalid_value(&class, &class.str().into(), fault);
        }
        quantity_of("storage", &object.at("capacity"), errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        for field in ["nodeTopology", "storageClassName"] {
            immutable(&new.at(field), &old.at(field), errors);
        }
    }

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
