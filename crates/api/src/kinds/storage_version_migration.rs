//! StorageVersionMigration: rewrites all objects of a resource, so that they are kept in the newest form.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{name, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster(
        "storagemigration.k8s.io",
        "v1",
        "StorageVersionMigration",
        "storageversionmigrations",
    )
    .status()
    .columns([name(), text("Resource", "Fully qualified resource to migrate")])
    .strategy(StorageVersionMigration)
    .build()
}

struct StorageVersionMigration;

impl Strategy for StorageVersionMigration {
    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        let part = |field| object.str(&["spec", "resource", field]).unwrap_or_default();
        let resource = match part("group") {
            "" => part("resource").to_owned(),
            group => format!("{}.{group}", part("resource")),
        };
        vec![object.name().into(), resource.into()]
    }
}
