//! A pod's volumes, and how its containers mount them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::check::{named_if_set, not_empty};
use super::volume_source::{local_descending, pod_source};
use super::{Context, flag};
use crate::field::{Cursor, ErrorList};
use crate::names;

/// The rules for the volumes; returns those that are in order by name, and whether each is a claim.
pub(super) fn validate<'b>(
    volumes: &'b Cursor<'_>,
    pod_name: Option<&str>,
    errors: &mut ErrorList,
) -> BTreeMap<&'b str, bool> {
    let mut found = BTreeMap::new();
    let items = volumes.value().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is_set = |volume: &Value, field: &str| volume.get(field).is_some_and(|v| !v.is_null());
    let made: BTreeSet<String> = items
        .iter()
        .filter(|v| is_set(v, "ephemeral"))
        .filter_map(|v| Some(format!("{}-{}", pod_name?, v.get("name")?.as_str()?)))
        .collect();
    for (volume, value) in volumes.items().zip(items) {
        let before = errors.len();
        pod_source(&volume, pod_name, errors);
        let name = volume.at("name");
        not_empty(&name, errors);
        named_if_set(&name, names::dns1123_label, errors);
        let key = value.get("name").and_then(Value::as_str).unwrap_or_default();
        if found.contains_key(key) {
            errors.duplicate(&name);
        }
        if errors.len() == before {
            found.insert(
                key,
                is_set(value, "persistentVolumeClaim") || is_set(value, "ephemeral"),
            );
        }
        let claim = volume.at("persistentVolumeClaim");
        let claim_name = claim.at("claimName");
        if made.contains(claim_name.str()) {
            errors.invalid(
                &claim_name,
                "must not reference a PVC that gets created for an ephemeral volume",
            );
        }
    }
    found
}

pub(super) fn mounts(container: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    let devices = container.at("volumeDevices");
    let is_device = |field: &str, value: &str| devices.items().any(|d| d.at(field).str() == value);
    let mut paths = BTreeSet::new();
    let mounts = container.at("volumeMounts");
    for mount in mounts.items() {
        let name = mount.at("name");
        not_empty(&name, errors);
        if !cx.volumes.contains_key(name.str()) {
            errors.not_found(&name);
        }
        let path = mount.at("mountPath");
        not_empty(&path, errors);
        if !paths.insert(path.str().to_owned()) {
            errors.invalid(&path, "must be unique");
        }
        if is_device("name", name.str()) {
            errors.invalid(&name, "must not already exist in volumeDevices");
        }
        if is_device("devicePath", path.str()) {
            errors.invalid(&path, "must not already exist as a path in volumeDevices");
        }
        let (sub_path, expression) = (mount.at("subPath"), mount.at("subPathExpr"));
        // Upstream leaves the index out of the path of what it says of the rest.
        local_descending(&mounts.said("subPath"), sub_path.str(), errors);
        if !sub_path.is_empty() && !expression.is_empty() {
            errors.invalid(&expression, "subPathExpr and subPath are mutually exclusive");
        }
        local_descending(&mounts.said("subPathExpr"), expression.str(), errors);
        propagation(&mounts, &mount.at("mountPropagation"), container, errors);
        recursive_read_only(&mounts, &mount, errors);
    }
}

fn propagation(mounts: &Cursor<'_>, mode: &Cursor<'_>, container: &Cursor<'_>, errors: &mut ErrorList) {
    if !mode.is_set() {
        return;
    }
    let place = mounts.said("mountPropagation");
    let privileged = flag(container.at("securityContext").value(), "privileged");
    match mode.str() {
        "Bidirectional" if !privileged => {
            errors.forbidden(
                &place,
                "Bidirectional mount propagation is available only to privileged containers",
            );
        }
        "Bidirectional" | "HostToContainer" | "None" => {}
        other => errors.not_supported_value(&place, &other.into(), &["Bidirectional", "HostToContainer", "None"]),
    }
}

fn recursive_read_only(mounts: &Cursor<'_>, mount: &Cursor<'_>, errors: &mut ErrorList) {
    let mode = mount.at("recursiveReadOnly");
    if !mode.is_set() {
        return;
    }
    let place = mounts.said("recursiveReadOnly");
    match mode.str() {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.at("readOnly").is_true() {
                errors.forbidden(&place, "may only be specified when readOnly is true");
            }
            if !matches!(mount.at("mountPropagation").str(), "" | "None") {
                errors.forbidden(
                    &place,
                    "may only be specified when mountPropagation is None or not specified",
                );
            }
        }
        other => errors.not_supported_value(&place, &other.into(), &["Disabled", "Enabled", "IfPossible"]),
    }
}

pub(super) fn devices(container: &Cursor<'_>, cx: &Context<'_>, errors: &mut ErrorList) {
    let mounts = container.at("volumeMounts");
    let is_mount = |field: &str, value: &str| mounts.items().any(|m| m.at(field).str() == value);
    let (mut seen_names, mut seen_paths) = (BTreeSet::new(), BTreeSet::new());
    for device in container.at("volumeDevices").items() {
        let (name, path) = (device.at("name"), device.at("devicePath"));
        not_empty(&name, errors);
        if !name.is_empty() && !seen_names.insert(name.str().to_owned()) {
            errors.invalid(&name, "must be unique");
        }
        match cx.volumes.get(name.str()) {
            Some(true) => {}
            Some(false) => errors.invalid(
                &name,
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            ),
            None => errors.not_found(&name),
        }
        not_empty(&path, errors);
        if path.str().split('/').any(|step| step == "..") {
            errors.invalid(&path, "can not contain backsteps ('..')");
        } else if !seen_paths.insert(path.str().to_owned()) {
            errors.invalid(&path, "must be unique");
        }
        if is_mount("name", name.str()) {
            errors.invalid(&name, "must not already exist in volumeMounts");
        }
        if is_mount("mountPath", path.str()) {
            errors.invalid(&path, "must not already exist as a path in volumeMounts");
        }
    }
}
