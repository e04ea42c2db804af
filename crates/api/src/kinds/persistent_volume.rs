//! PersistentVolume: a piece of storage in the cluster.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, str_or, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("", "v1", "PersistentVolume", "persistentvolumes")
        .short(&["pv"])
        .status()
        .columns([
            name(),
            text("Capacity", "How much the volume holds."),
            text("Access Modes", "The ways in which the volume can be mounted."),
            text("Reclaim Policy", "What happens to the volume when its claim is gone."),
            text("Status", "The phase of the volume."),
            text("Claim", "The claim that the volume is bound to."),
            text("StorageClass", "StorageClass of the pv"),
            text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
            text("Reason", "Why the volume is in this phase."),
            age(),
            text("VolumeMode", "Filesystem or Block.").wide(),
        ])
        .strategy(PersistentVolume)
        .build()
}

struct PersistentVolume;

impl Strategy for PersistentVolume {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let claim = match object.get(&["spec", "claimRef"]) {
            None => String::new(),
            Some(claim) => {
                let field = |name| claim.get(name).and_then(Value::as_str).unwrap_or_default();
                format!("{}/{}", field("namespace"), field("name"))
            }
        };
        let status = if object.is_terminating() {
            "Terminating".into()
        } else {
            str_of(object, &["status", "phase"])
        };
        vec![
            object.name().into(),
            str_or(object, &["spec", "capacity", "storage"], "0"),
            access_modes(object.array(&["spec", "accessModes"])).into(),
            str_of(object, &["spec", "persistentVolumeReclaimPolicy"]),
            status,
            claim.into(),
            class_of(object).into(),
            str_or(object, &["spec", "volumeAttributesClassName"], "<unset>"),
            str_of(object, &["status", "reason"]),
            age_of(object, now),
            str_or(object, &["spec", "volumeMode"], "<unset>"),
        ]
    }
}

/// The storage class of a volume or a claim; an old annotation goes before the field.
pub(super) fn class_of(object: &Object) -> &str {
    object
        .annotation("volume.beta.kubernetes.io/storage-class")
        .or_else(|| object.str(&["spec", "storageClassName"]))
        .unwrap_or_default()
}

/// `RWO,RWX`, in a fixed order and without repetition.
pub(super) fn access_modes(modes: &[Value]) -> String {
    let shown: Vec<&str> = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ]
    .into_iter()
    .filter(|(mode, _)| modes.iter().any(|m| m == mode))
    .map(|(_, short)| short)
    .collect();
    shown.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn access_modes_are_short_and_in_order() {
        let modes = json!(["ReadWriteMany", "ReadWriteOnce", "ReadWriteMany"]);
        assert_eq!(access_modes(modes.as_array().unwrap()), "RWO,RWX");
    }
}
