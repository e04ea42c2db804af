//! PersistentVolumeClaim: a request for storage.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, str_or, text};
use super::check::{immutable, named_if_set, not_empty, one_of_if_set};
use super::fill::{at, fill, fill_empty, map_made};
use super::persistent_volume::{access_modes, class_of};
use super::row::namespaced;
use super::workload::changed_beyond;
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
    fn set_defaults(&self, object: &mut Object) {
        if let Some(status) = map_made(&mut object.0, "status") {
            fill_empty(status, "phase", "Pending");
        }
        if let Some(spec) = at(&mut object.0, "spec") {
            fill(spec, "volumeMode", "Filesystem");
        }
        same_sources(object);
    }

    fn prepare_for_create(&self, object: &mut Object) {
        object.set(&["status"], serde_json::json!({"phase": "Pending"}));
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        validate_spec(&object.at("spec"), errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        let mut may_change = vec!["volumeAttributesClassName"];
        if old_spec.at("volumeName").is_empty() {
            may_change.push("volumeName");
        }
        if !old_spec.at("storageClassName").is_set() {
            may_change.push("storageClassName");
        }
        let (status, old_status) = (new.at("status"), old.at("status"));
        let (size, old_size) = (requested(&spec), requested(&old_spec));
        if status.at("phase").str() == "Bound" {
            may_change.push("resources");
        }
        if changed_beyond(&spec, &old_spec, &may_change) {
            errors.forbidden(
                &spec,
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                 claims",
            );
        }
        let (resources, capacity) = (spec.at("resources"), old_status.at("capacity"));
        let requests = resources.at("requests");
        if let (Some(now), Some(before)) = (size, old_size)
            && now < before
            && capacity.key("storage").quantity().is_none_or(|have| now <= have)
        {
            errors.forbidden(&requests.at("storage"), "field can not be less than status.capacity");
        }
        immutable(&spec.at("volumeMode"), &old_spec.at("volumeMode"), errors);
        let (class, old_class) = (
            spec.at("volumeAttributesClassName"),
            old_spec.at("volumeAttributesClassName"),
        );
        if old_class.is_set() && !class.is_set() {
            errors.forbidden(&class, "update from non-nil value to nil is forbidden");
        } else if !old_class.is_empty() && class.is_empty() {
            errors.forbidden(&class, "update from non-nil value to an empty string is forbidden");
        }
    }

    fn validate_status_update(&self, new: &Cursor<'_>, _old: &Cursor<'_>, errors: &mut ErrorList) {
        let status = new.at("status");
        for (_, amount) in status.at("capacity").entries() {
            if amount.quantity().is_some_and(|q| q.is_negative()) {
                errors.invalid(&amount, "must be a valid resource quantity");
            }
        }
    }

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

fn requested(spec: &Cursor<'_>) -> Option<crate::quantity::Quantity> {
    let storage = spec.value()?.get("resources")?.get("requests")?.get("storage")?;
    crate::quantity::Quantity::from_json(storage).ok()
}

/// `dataSource` and `dataSourceRef` say the same, where the older one can say it.
fn same_sources(object: &mut Object) {
    let source = object.get(&["spec", "dataSource"]).cloned();
    let reference = object.get(&["spec", "dataSourceRef"]).cloned();
    let plain = |v: &Value| {
        v.get("namespace")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .is_empty()
    };
    match (source, reference) {
        (Some(source), None) => object.set(&["spec", "dataSourceRef"], source),
        (None, Some(mut reference)) if plain(&reference) => {
            if let Some(map) = reference.as_object_mut() {
                map.remove("namespace");
            }
            object.set(&["spec", "dataSource"], reference);
        }
        _ => {}
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
    // Upstream leaves the requests out of the path.
    let (storage, place) = (requests.key("storage"), resources.key("storage"));
    match storage.value() {
        None | Some(Value::Null) => errors.required(&place, ""),
        Some(shown) if storage.quantity().is_none_or(|q| q.is_negative() || q.is_zero()) => {
            errors.invalid_value(&place, shown, "must be greater than zero");
        }
        Some(_) => {}
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

#[cfg(test)]
mod tests {
    use super::super::check::tests::{prepared, refuses, updated, with};
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
    }

    #[test]
    fn a_new_claim_is_pending() {
        let claim = prepared(&row(), valid());
        assert_eq!(claim["status"], json!({"phase": "Pending"}));
        assert_eq!(claim["spec"]["volumeMode"], "Filesystem");
    }

    #[test]
    fn the_spec_is_checked() {
        refuses(
            &row(),
            &valid(),
            &[
                (
                    "/spec/accessModes",
                    json!([]),
                    "spec.accessModes: Required value: at least 1 access mode is required",
                ),
                (
                    "/spec/accessModes/1",
                    json!("ReadWriteOncePod"),
                    "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                ),
                ("/spec/resources", json!({}), "spec.resources[storage]: Required value"),
                (
                    "/spec/resources/requests/storage",
                    json!("0"),
                    "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
                ),
                (
                    "/spec/volumeMode",
                    json!("X"),
                    "spec.volumeMode: Unsupported value: \"X\": supported values: \"Block\", \"Filesystem\"",
                ),
            ],
        );
    }

    #[test]
    fn a_bound_claim_grows_and_an_unbound_one_is_bound() {
        let row = row();
        assert_eq!(
            updated(&row, valid(), with(&valid(), "/spec/volumeName", json!("pv"))),
            [""; 0]
        );
        let text = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                    volumeAttributesClassName for bound claims";
        assert_eq!(
            updated(
                &row,
                valid(),
                with(&valid(), "/spec/accessModes/0", json!("ReadWriteMany"))
            ),
            [text]
        );
        let bound = with(
            &valid(),
            "/status",
            json!({"phase": "Bound", "capacity": {"storage": "1Gi"}}),
        );
        let resized = |size: &str| with(&bound, "/spec/resources/requests/storage", json!(size));
        assert_eq!(updated(&row, bound.clone(), resized("2Gi")), [""; 0]);
        assert_eq!(
            updated(&row, bound.clone(), resized("1Mi")),
            ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
        );
    }
}
