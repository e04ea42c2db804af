//! VolumeAttributesClass: attributes of volumes that may change while they are in use.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster(
        "storage.k8s.io",
        "v1",
        "VolumeAttributesClass",
        "volumeattributesclasses",
    )
    .short(&["vac"])
    .columns([
        name(),
        text("DriverName", "The driver that knows the attributes."),
        age(),
    ])
    .strategy(VolumeAttributesClass)
    .build()
}

struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            str_of(object, &["driverName"]),
            age_of(object, now),
        ]
    }
}
