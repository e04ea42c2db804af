//! VolumeAttributesClass: attributes of volumes that may change while they are in use.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::check::same;

use super::row::cluster;
use super::storage_class::{self, provisioner};
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
        provisioner(&object.at("driverName"), errors);
        let parameters = object.at("parameters");
        storage_class::parameters(&parameters, errors);
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
        self.validate(new, errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            str_of(object, &["driverName"]),
            age_of(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_class_names_its_driver_and_stays() {
        let valid = json!({"metadata": {"name": "c"}, "driverName": "d.example", "parameters": {"iops": "1"}});
        refuses(
            &row(),
            &valid,
            &[
                ("/driverName", json!(""), "driverName: Required value"),
                (
                    "/parameters",
                    json!({}),
                    "parameters: Required value: must contain at least one key/value pair",
                ),
                (
                    "/parameters",
                    json!({"": "x"}),
                    "parameters: Invalid value: \"\": field can not be empty.",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid,
            &[(
                "/parameters/iops",
                json!("2"),
                "parameters: Forbidden: updates to parameters are forbidden.",
            )],
        );
    }
}
