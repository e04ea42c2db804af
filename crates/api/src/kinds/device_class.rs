//! DeviceClass: a sort of devices that claims may ask for.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("resource.k8s.io", "v1", "DeviceClass", "deviceclasses")
        .generation()
        .columns([name(), age()])
        .strategy(DeviceClass)
        .build()
}

struct DeviceClass;

impl Strategy for DeviceClass {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), age_of(object, now)]
    }
}
