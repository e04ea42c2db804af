//! PersistentVolumeClaim: a request for storage.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, str_or, text};
use super::check::{named_if_set, not_empty, one_of_if_set, positive_quantity};
use super::persistent_volume::{access_modes, class_of};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::resource::Resource;
use crate::selector::validate_label_selector;
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

/// The rules for a claim's spec, alone or in a template.
pub(super) fn validate_spec(spec: &Cursor<'_>, errors: &mut ErrorList) {
    let modes = spec.at("accessModes");
    if modes.is_empty() {
        errors.required(&modes, "at least 1 access mode is required");
    }
    validate_label_selector(&spec.at("selector"), errors);
    access_modes_agree(&modes, errors);
    let resources = spec.at("resources");
    let requests = resources.at("requests");
    let storage = requests.key("storage");
    if !storage.is_set() {
        errors.required(&storage, "");
    } else {
        positive_quantity(&storage, errors);
    }
    named_if_set(&spec.at("storageClassName"), names::dns1123_subdomain, errors);
    one_of_if_set(&spec.at("volumeMode"), &["Block", "Filesystem"], errors);
    data_source(&spec.at("dataSource"), errors);
    data_source(&spec.at("dataSourceRef"), errors);
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    if source.is_set() && reference.is_set() {
        if !reference.at("namespace").is_empty() {
            errors.invalid(
                &source,
                "may not be specified when dataSourceRef.namespace is specified",
            );
        } else if ["apiGroup", "kind", "name"]
            .iter()
            .any(|f| source.at(f).value() != reference.at(f).value())
        {
            errors.invalid(&source, "must match dataSourceRef");
        }
    }
    named_if_set(&spec.at("volumeAttributesClassName"), names::dns1123_subdomain, errors);
}

/// Known modes, and the one for a single pod alone.
pub(super) fn access_modes_agree(modes: &Cursor<'_>, errors: &mut ErrorList) {
    let (mut alone, mut others) = (false, false);
    for mode in modes.strs() {
        match mode {
            "ReadWriteOncePod" => alone = true,
            "ReadOnlyMany" | "ReadWriteMany" | "ReadWriteOnce" => others = true,
            _ => errors.not_supported_value(
                modes,
                &mode.into(),
                &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"],
            ),
        }
    }
    if alone && others {
        errors.forbidden(modes, "may not use ReadWriteOncePod with other access modes");
    }
}

fn data_source(source: &Cursor<'_>, errors: &mut ErrorList) {
    if !source.is_set() {
        return;
    }
    not_empty(&source.at("name"), errors);
    let kind = source.at("kind");
    not_empty(&kind, errors);
    let group = source.at("apiGroup");
    if group.is_empty() && kind.str() != "PersistentVolumeClaim" {
        errors.invalid_value(
            source,
            &kind.str().into(),
            "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        );
    }
    named_if_set(&group, names::dns1123_subdomain, errors);
    // Only a reference of the newer form has a namespace.
    if source.value().is_some_and(|v| v.get("namespace").is_some()) {
        named_if_set(&source.at("namespace"), names::dns1123_label, errors);
    }
}
