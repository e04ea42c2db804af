//! VolumeAttachment: that a volume is to be attached to a node.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, boolean, name, str_of, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments")
        .status()
        .conditional_update()
        .columns([
            name(),
            text("Attacher", "The driver that attaches the volume.").format("name"),
            text("PV", "The volume."),
            text("Node", "The node."),
            boolean("Attached", "Whether it is attached."),
            age(),
        ])
        .strategy(VolumeAttachment)
        .build()
}

struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            str_of(object, &["spec", "attacher"]),
            str_of(object, &["spec", "source", "persistentVolumeName"]),
            str_of(object, &["spec", "nodeName"]),
            object.bool(&["status", "attached"]).unwrap_or_default().into(),
            age_of(object, now),
        ]
    }
}
