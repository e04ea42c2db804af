//! PersistentVolume: a piece of storage in the cluster.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::cells::{age, age_of, name, str_of, str_or, text};
use super::check::{basic_quantity, immutable_at, named_if_set, not_empty, one_of_if_set, positive_quantity, same};
use super::fill::{at, fill, fill_empty, map_made};
use super::persistent_volume_claim::access_modes_agree;
use super::pod_spec::{
    csi_driver_name, host_path, iscsi, no_backsteps, node_selector, plugin, required_fields, volume_source,
};
use super::row::cluster;
use crate::field::{Cursor, ErrorList};
use crate::names;
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

/// The sources that a volume may have.
const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

impl Strategy for PersistentVolume {
    fn set_defaults(&self, object: &mut Object) {
        if let Some(status) = map_made(&mut object.0, "status") {
            fill_empty(status, "phase", "Pending");
        }
        if let Some(spec) = at(&mut object.0, "spec") {
            fill_empty(spec, "persistentVolumeReclaimPolicy", "Retain");
            fill(spec, "volumeMode", "Filesystem");
            volume_source(spec);
        }
    }

    fn prepare_for_create(&self, object: &mut Object) {
        object.set(&["status"], serde_json::json!({"phase": "Pending"}));
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        let spec = object.at("spec");
        let modes = spec.at("accessModes");
        not_empty(&modes, errors);
        access_modes_agree(&modes, errors);
        let capacity = spec.at("capacity");
        if capacity.is_empty() {
            errors.required(&capacity, "");
        }
        if !capacity.key("storage").is_set() || capacity.len() > 1 {
            let shown = capacity.value().cloned().unwrap_or_else(|| Value::Object(Map::new()));
            errors.not_supported_value(&capacity, &shown, &["storage"]);
        }
        for (_, amount) in capacity.entries() {
            basic_quantity(&amount, errors);
            positive_quantity(&amount, errors);
        }
        let policy = spec.at("persistentVolumeReclaimPolicy");
        one_of_if_set(&policy, &["Delete", "Recycle", "Retain"], errors);
        let affinity = spec.at("nodeAffinity");
        if affinity.is_set() {
            let required = affinity.at("required");
            if required.is_set() {
                node_selector(&required, errors);
            } else {
                errors.required(&required, "must specify required node constraints");
            }
        }
        let metadata = object.at("metadata");
        sources(&spec, metadata.at("name").str(), errors);
        let root = spec.at("hostPath");
        if root.at("path").str().trim_matches('/').is_empty() && root.is_set() && policy.str() == "Recycle" {
            errors.forbidden(&policy, "may not be 'recycle' for a hostPath mount of '/'");
        }
        named_if_set(&spec.at("storageClassName"), names::dns1123_subdomain, errors);
        one_of_if_set(&spec.at("volumeMode"), &["Block", "Filesystem"], errors);
        let attributes = spec.at("volumeAttributesClassName");
        if attributes.is_set() {
            if attributes.is_empty() {
                errors.required(&attributes, "an empty string is disallowed");
            }
            named_if_set(&attributes, names::dns1123_subdomain, errors);
            let csi = spec.at("csi");
            if !csi.is_set() {
                errors.required(&csi, "has to be specified when using volumeAttributesClassName");
            }
        }
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.validate(new, errors);
        let (spec, old_spec) = (new.at("spec"), old.at("spec"));
        let changed = SOURCES
            .iter()
            .filter(|source| !same_source(source, &spec, &old_spec))
            .count();
        if changed > 0 {
            errors.forbidden(
                &spec.said("persistentvolumesource"),
                "spec.persistentvolumesource is immutable after creation",
            );
        }
        // Upstream leaves `spec` out of the paths of these two.
        immutable_at(
            &new.said("volumeMode"),
            &spec.at("volumeMode"),
            &old_spec.at("volumeMode"),
            errors,
        );
        let (affinity, old_affinity) = (spec.at("nodeAffinity"), old_spec.at("nodeAffinity"));
        if old_affinity.is_set() && !same(affinity.value(), old_affinity.value()) {
            errors.invalid_value(
                &new.said("nodeAffinity"),
                affinity.value().unwrap_or(&Value::Null),
                "field is immutable, except for updating from beta label to GA",
            );
        }
        let attributes = spec.at("volumeAttributesClassName");
        if old_spec.at("volumeAttributesClassName").is_set() && !attributes.is_set() {
            errors.forbidden(&attributes, "update from non-nil value to nil is forbidden");
        }
    }

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

/// One source, complete.
fn sources(spec: &Cursor<'_>, name: &str, errors: &mut ErrorList) {
    let mut found = false;
    for kind in SOURCES {
        let source = spec.at(kind);
        if !source.is_set() {
            continue;
        }
        if found {
            errors.forbidden(&source, "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        required_fields(&source, kind, errors);
        match kind {
            "hostPath" => host_path(&source, errors),
            "iscsi" => {
                iscsi::validate(&source, "must be valid format", errors);
                let secret = source.at("secretRef");
                if secret.is_set() {
                    not_empty(&secret.at("name"), errors);
                }
                if iscsi::portal_is_too_long(&source, name) {
                    let portal = source.at("targetPortal");
                    errors.invalid_value(&source.said("targetportal"), &portal.str().into(), iscsi::LONG_PORTAL);
                }
            }
            "csi" => csi(&source, errors),
            "local" => {
                no_backsteps(&source.at("path"), errors);
                let affinity = spec.at("nodeAffinity");
                if !affinity.is_set() {
                    errors.required(&affinity, "Local volume requires node affinity");
                }
            }
            "glusterfs" => {
                let namespace = source.at("endpointsNamespace");
                if namespace.is_set() && namespace.is_empty() {
                    errors.invalid(
                        &namespace,
                        "if the endpointnamespace is set, it must be a valid namespace name",
                    );
                }
                named_if_set(&namespace, names::dns1123_label, errors);
            }
            "azureFile" => {
                let namespace = source.at("secretNamespace");
                if namespace.is_set() {
                    not_empty(&namespace, errors);
                }
            }
            "cinder" | "storageos" => {
                secret(&source.at("secretRef"), errors);
                plugin(&source, kind, errors);
            }
            _ => plugin(&source, kind, errors),
        }
    }
    if !found {
        errors.required(spec, "must specify a volume type");
    }
}

fn csi(source: &Cursor<'_>, errors: &mut ErrorList) {
    csi_driver_name(&source.at("driver"), errors);
    not_empty(&source.at("volumeHandle"), errors);
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let reference = source.at(field);
        secret(&reference, errors);
        named_if_set(&reference.at("name"), names::dns1123_subdomain, errors);
        named_if_set(&reference.at("namespace"), names::dns1123_label, errors);
    }
}

fn secret(reference: &Cursor<'_>, errors: &mut ErrorList) {
    if reference.is_set() {
        not_empty(&reference.at("name"), errors);
        not_empty(&reference.at("namespace"), errors);
    }
}

/// A source stays, but a driver's secret for growing may be added.
fn same_source(kind: &str, new: &Cursor<'_>, old: &Cursor<'_>) -> bool {
    let (now, before) = (new.at(kind), old.at(kind));
    if kind != "csi" {
        return same(now.value(), before.value());
    }
    let without = |at: &Cursor<'_>, drop: bool| {
        let mut value = at.value().cloned();
        if let (true, Some(map)) = (drop, value.as_mut().and_then(Value::as_object_mut)) {
            map.remove("controllerExpandSecretRef");
        }
        value
    };
    let add = !before.at("controllerExpandSecretRef").is_set();
    same(without(&now, add).as_ref(), without(&before, add).as_ref())
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
    use super::super::check::tests::{created, defaulted, refuses, refuses_update};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_volume_is_checked_and_its_source_stays() {
        let valid = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"}}});
        let spec = &defaulted(&row(), valid.clone())["spec"];
        assert_eq!(spec["persistentVolumeReclaimPolicy"], "Retain");
        assert_eq!(spec["hostPath"]["type"], "");
        refuses(
            &row(),
            &valid,
            &[
                ("/spec/accessModes", json!([]), "spec.accessModes: Required value"),
                (
                    "/spec/capacity",
                    json!({"storage": "0"}),
                    "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
                ),
                (
                    "/spec/hostPath",
                    json!(null),
                    "spec: Required value: must specify a volume type",
                ),
                (
                    "/spec/nfs",
                    json!({"server": "s", "path": "/p"}),
                    "spec.nfs: Forbidden: may not specify more than 1 volume type",
                ),
                (
                    "/spec/hostPath/path",
                    json!("/a/../b"),
                    "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                ),
                (
                    "/spec/persistentVolumeReclaimPolicy",
                    json!("X"),
                    "spec.persistentVolumeReclaimPolicy: Unsupported value: \"X\": supported values: \"Delete\", \
                     \"Recycle\", \"Retain\"",
                ),
            ],
        );
        refuses_update(
            &row(),
            &valid,
            &[
                (
                    "/spec/hostPath/path",
                    json!("/other"),
                    "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
                ),
                (
                    "/spec/volumeMode",
                    json!("Block"),
                    "volumeMode: Invalid value: \"Block\": field is immutable",
                ),
            ],
        );
    }

    #[test]
    fn what_a_volume_comes_from_is_checked() {
        for (source, expected) in [
            (
                json!({"iscsi": {"targetPortal": "", "iqn": "iqn.2001-04.com.example:disk"}}),
                "spec.iscsi.targetPortal: Required value",
            ),
            (
                json!({"iscsi": {"targetPortal": "p", "iqn": "disk"}}),
                "spec.iscsi.iqn: Invalid value: \"disk\": must be valid format",
            ),
            (
                json!({"azureFile": {"shareName": "s", "secretName": "x", "secretNamespace": ""}}),
                "spec.azureFile.secretNamespace: Required value",
            ),
            (
                json!({"glusterfs": {"endpoints": "e", "path": "p", "endpointsNamespace": ""}}),
                "spec.glusterfs.endpointsNamespace: Invalid value: \"\": if the endpointnamespace is set, it must be a \
                 valid namespace name",
            ),
        ] {
            let mut spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
            spec.as_object_mut()
                .unwrap()
                .extend(source.as_object().unwrap().clone());
            assert_eq!(
                created(&row(), json!({"metadata": {"name": "v"}, "spec": spec})),
                [expected]
            );
        }
    }

    #[test]
    fn access_modes_are_short_and_in_order() {
        let modes = json!(["ReadWriteMany", "ReadWriteOnce", "ReadWriteMany"]);
        assert_eq!(access_modes(modes.as_array().unwrap()), "RWO,RWX");
    }
}
