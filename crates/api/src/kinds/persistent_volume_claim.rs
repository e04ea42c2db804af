//! PersistentVolumeClaim: a request for storage.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::cells::{age, age_of, name, str_of, str_or, text};
use super::check::{
    IMMUTABLE, basic_quantity, immutable_at, is_native_resource, named_if_set, not_empty, one_of_if_set, same,
};
use super::fill::{at, fill, fill_empty, map_at, map_made};
use super::persistent_volume::{access_modes, class_of};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::names;
use crate::object::Object;
use crate::quantity::Quantity;
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
        let bound = new.at("status").at("phase").str() == "Bound";
        let old_status = old.at("status");
        if !same_but_for_what_may_change(new, old, bound, errors) {
            errors.forbidden(
                &spec,
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                 claims",
            );
        }
        let (resources, capacity) = (spec.at("resources"), old_status.at("capacity"));
        let requests = resources.at("requests");
        if let (Some(now), Some(before)) = (requested(&spec), requested(&old_spec))
            && now < before
            && now <= capacity.key("storage").quantity().unwrap_or(Quantity::ZERO)
        {
            errors.forbidden(&requests.said("storage"), "field can not be less than status.capacity");
        }
        // Upstream leaves `spec` out of this path.
        immutable_at(
            &new.said("volumeMode"),
            &spec.at("volumeMode"),
            &old_spec.at("volumeMode"),
            errors,
        );
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
            basic_quantity(&amount, errors);
        }
        // The word in upstream's messages is not quite the field's.
        let place = status.said("allocatedResourceStatus");
        for (name, state) in status.at("allocatedResourceStatuses").entries() {
            claim_resource(&place, name, errors);
            if !RESIZE_STATES.contains(&state.str()) {
                errors.not_supported_value(&place, &name.into(), &RESIZE_STATES);
            }
        }
        let allocated = status.at("allocatedResources");
        for (name, amount) in allocated.entries() {
            if claim_resource(&allocated, name, errors) {
                basic_quantity(&amount, errors);
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

const RESIZE_STATES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Whether a name is one of a resource of claims: `storage`, or somebody's own.
fn claim_resource(place: &Cursor<'_>, name: &str, errors: &mut ErrorList) -> bool {
    let faults = names::qualified_name(name);
    let before = errors.len();
    if faults.is_empty() && is_native_resource(name) && name != "storage" {
        errors.not_supported_value(place, &name.into(), &["storage"]);
    }
    for fault in faults {
        errors.invalid_value(place, &name.into(), fault);
    }
    errors.len() == before
}

/// The volume is given once, the class once (or as an old annotation has it); bound claims may ask for more storage and
/// for other attributes.
fn same_but_for_what_may_change(new: &Cursor<'_>, old: &Cursor<'_>, bound: bool, errors: &mut ErrorList) -> bool {
    let map = |at: &Cursor<'_>| {
        at.at("spec")
            .value()
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let (mut now, mut before) = (map(new), map(old));
    if before.get("volumeName").is_none_or(|v| v == "") {
        put(&mut before, "volumeName", now.get("volumeName").cloned());
    }
    let (metadata, old_metadata) = (new.at("metadata"), old.at("metadata"));
    let (annotations, old_annotations) = (metadata.at("annotations"), old_metadata.at("annotations"));
    let (beta, old_beta) = (annotations.key(BETA_CLASS), old_annotations.key(BETA_CLASS));
    let set_now = now.get("storageClassName").and_then(Value::as_str).map(str::to_owned);
    let was_set = before.get("storageClassName").is_some_and(|v| !v.is_null());
    let from_annotation = old_beta.is_set() && !was_set && set_now.as_deref() == Some(old_beta.str());
    if from_annotation && (!beta.is_set() || beta.str() == old_beta.str()) {
        now.remove("storageClassName");
    } else {
        if beta.str() != old_beta.str() {
            let place = metadata.said("annotations");
            errors.invalid_value(&place.said(BETA_CLASS), &beta.str().into(), IMMUTABLE);
        }
        if !was_set && set_now.is_some() && (!old_beta.is_set() || from_annotation) {
            now.remove("storageClassName");
            before.remove("storageClassName");
        }
    }
    if bound {
        let storage = |spec: &Map<String, Value>| spec.get("resources")?.get("requests")?.get("storage").cloned();
        let old_storage = storage(&before);
        if let Some(requests) = map_at(&mut now, &["resources", "requests"]) {
            put(requests, "storage", old_storage);
        }
        if now.get("volumeAttributesClassName").is_some_and(|v| !v.is_null()) {
            put(
                &mut now,
                "volumeAttributesClassName",
                before.get("volumeAttributesClassName").cloned(),
            );
        }
    }
    same(Some(&Value::Object(now)), Some(&Value::Object(before)))
}

fn put(map: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    match value {
        Some(value) => map.insert(field.to_owned(), value),
        None => map.remove(field),
    };
}

fn requested(spec: &Cursor<'_>) -> Option<Quantity> {
    let storage = spec.value()?.get("resources")?.get("requests")?.get("storage")?;
    Quantity::from_json(storage).ok()
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
            errors.invalid_value(
                spec,
                &source.path().into(),
                "may not be specified when dataSourceRef.namespace is specified",
            );
        } else if ["apiGroup", "kind", "name"]
            .iter()
            .any(|f| source.at(f).value() != reference.at(f).value())
        {
            errors.invalid_value(spec, &source.path().into(), "must match dataSourceRef");
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
    use super::super::check::tests::{checked, prepared, refuses, refuses_status, updated, with};
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
            checked(&row, &bound, &resized("1Mi")),
            ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
        );
    }

    #[test]
    fn a_class_in_the_old_annotation_moves_into_the_spec() {
        const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
        let annotated = with(&valid(), "/metadata/annotations", json!({CLASS: "fast"}));
        let row = row();
        let moved = with(&annotated, "/spec/storageClassName", json!("fast"));
        assert_eq!(updated(&row, annotated.clone(), moved.clone()), [""; 0]);
        let other = with(&annotated, "/spec/storageClassName", json!("slow"));
        assert_eq!(updated(&row, annotated.clone(), other).len(), 1);
        let changed = with(&annotated, "/metadata/annotations", json!({CLASS: "slow"}));
        assert_eq!(
            updated(&row, annotated, changed),
            [
                "metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: \"slow\": field is \
                 immutable"
            ]
        );
    }

    #[test]
    fn the_states_of_a_resize_are_known_ones() {
        let claim = json!({"metadata": {"name": "c"}, "status": {"phase": "Bound",
            "allocatedResources": {"storage": "1Gi"}, "allocatedResourceStatuses": {"storage": "NodeResizePending"}}});
        refuses_status(
            &row(),
            &claim,
            &[
                (
                    "/status/allocatedResources",
                    json!({"cpu": "1"}),
                    "status.allocatedResources: Unsupported value: \"cpu\": supported values: \"storage\"",
                ),
                (
                    "/status/allocatedResourceStatuses",
                    json!({"storage": "Done"}),
                    "status.allocatedResourceStatus: Unsupported value: \"storage\": supported values: \
                     \"ControllerResizeInProgress\", \"ControllerResizeInfeasible\", \"NodeResizeInProgress\", \
                     \"NodeResizeInfeasible\", \"NodeResizePending\"",
                ),
            ],
        );
    }
}
