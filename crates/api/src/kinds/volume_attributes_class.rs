//! VolumeAttributesClass: attributes of volumes that may change while they are in use.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::check::same;
use super::pod_spec::csi_driver_name;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
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
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        csi_driver_name(&object.at("driverName"), errors);
        let parameters = object.at("parameters");
        if parameters.is_empty() {
            errors.required(&parameters, "must contain at least one key/value pair");
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        for (field, text) in [
            ("driverName", "updates to driverName are forbidden."),
            ("parameters", "updates to parameters are forbidden."),
        ] {
            let (now, before) = (new.at(field), old.at(field));
            if !same(now.value(), before.value()) {
                errors.forbidden(&now, text);
            }
        }
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            str_of(object, &["driverName"]),
            age_of(object, now),
        ]
    }
}
