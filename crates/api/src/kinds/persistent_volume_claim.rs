//! PersistentVolumeClaim: a request for storage.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, str_or, text};
use super::persistent_volume::{access_modes, class_of};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
        .short(&["pvc"])
        .status()
        .columns([
            name(),
            text("Status", "The phase of the claim."),
            text("Volume", "The volume that the claim is bound to."),
            text("Capacity", "How much the volume holds."),
            text("Access Modes", "The ways in which the volume can be mounted."),
            text("StorageClass", "StorageClass of the pvc"),
            text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
            age(),
            text("VolumeMode", "Filesystem or Block.").wide(),
        ])
        .strategy(PersistentVolumeClaim)
        .build()
}

struct PersistentVolumeClaim;

impl Strategy for PersistentVolumeClaim {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let status = if object.is_terminating() {
            "Terminating".into()
        } else {
            str_of(object, &["status", "phase"])
        };
        let bound = object.str(&["spec", "volumeName"]).is_some_and(|v| !v.is_empty());
        let (capacity, modes) = if bound {
            (
                str_or(object, &["status", "capacity", "storage"], "0"),
                access_modes(object.array(&["status", "accessModes"])),
            )
        } else {
            ("".into(), String::new())
        };
        vec![
            object.name().into(),
            status,
            str_of(object, &["spec", "volumeName"]),
            capacity,
            modes.into(),
            class_of(object).into(),
            str_or(object, &["spec", "volumeAttributesClassName"], "<unset>"),
            age_of(object, now),
            str_or(object, &["spec", "volumeMode"], "<unset>"),
        ]
    }
}
