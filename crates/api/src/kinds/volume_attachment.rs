//! VolumeAttachment: that a volume is to be attached to a node.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, boolean, name, str_of, text};
use super::check::{immutable, not_empty};
use super::pod_spec::csi_driver_name;
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names;
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
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        csi_driver_name(&spec.at("attacher"), errors);
        let source = spec.at("source");
        let (volume, inline) = (source.at("persistentVolumeName"), source.at("inlineVolumeSpec"));
        match (volume.is_set(), inline.is_set()) {
            (false, false) => errors.required(
                &source,
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
            (true, true) => errors.forbidden(
                &source,
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
            (true, false) => not_empty(&volume, errors),
            (false, true) => {}
        }
        let node = spec.at("nodeName");
        not_empty(&node, errors);
        super::check::named_if_set(&node, names::dns1123_subdomain, errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        immutable(&new.at("spec"), &old.at("spec"), errors);
    }

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
