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

/// Bytes of all keys and values.
const LONGEST_METADATA: usize = 256 * 1024;

struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        validate(object, errors);
        let spec = object.at("spec");
        let attacher = spec.at("attacher");
        if !attacher.is_empty() {
            csi_driver_name(&attacher, errors);
        }
        let source = spec.at("source");
        super::check::named_if_set(&source.at("persistentVolumeName"), names::dns1123_subdomain, errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        validate(new, errors);
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

fn validate(object: &Cursor<'_>, errors: &mut ErrorList) {
    let spec = object.at("spec");
    not_empty(&spec.at("attacher"), errors);
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
        (true, false) if volume.is_empty() => {
            errors.required(&volume, "must specify non empty persistentVolumeName");
        }
        (true, false) => {}
        (false, true) => {}
    }
    let node = spec.at("nodeName");
    for fault in names::dns1123_subdomain(node.str()) {
        errors.invalid_value(&node, &node.str().into(), fault);
    }
    let status = object.at("status");
    let metadata = status.at("attachmentMetadata");
    let bytes: usize = metadata
        .entries()
        .map(|(key, value)| key.len() + value.str().len())
        .sum();
    if bytes > LONGEST_METADATA {
        errors.too_long(&metadata, LONGEST_METADATA);
    }
    for field in ["attachError", "detachError"] {
        let failure = status.at(field);
        let (message, code) = (failure.at("message"), failure.at("errorCode"));
        if message.str().len() > 1024 {
            // Upstream names another limit than the one it has.
            errors.too_long(&message, LONGEST_METADATA);
        }
        if code.int() < 0 {
            errors.invalid(&code, "must be between 0 and 2147483647, inclusive");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn an_attachment_has_one_source_and_stays() {
        let valid = json!({"metadata": {"name": "a"}, "spec": {"attacher": "d.example", "nodeName": "n",
            "source": {"persistentVolumeName": "v"}}});
        refuses(
            &row(),
            &valid,
            &[
                ("/spec/attacher", json!(""), "spec.attacher: Required value"),
                (
                    "/spec/source",
                    json!({}),
                    "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                ),
                (
                    "/spec/source/persistentVolumeName",
                    json!(""),
                    "spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName",
                ),
                (
                    "/status",
                    json!({"attachError": {"errorCode": -1}}),
                    "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                ),
            ],
        );
        let changed = "spec: Invalid value: {\"attacher\":\"d.example\",\"nodeName\":\"m\",\"source\":\
                       {\"persistentVolumeName\":\"v\"}}: field is immutable";
        refuses_update(&row(), &valid, &[("/spec/nodeName", json!("m"), changed)]);
    }
}
