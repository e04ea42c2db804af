//! What a spec means when it does not say: upstream's defaults for pods, containers, probes and volumes. Also the one
//! field with two names (`serviceAccount`).

use serde_json::{Map, Value, json};

use super::super::fill::{at, each, fill, fill_empty, fill_zero, map_at};
use super::resources::default_pod_level;
use crate::object::Object;

/// Of a pod: its spec's, and what holds for pods alone.
pub(in crate::kinds) fn set_pod_defaults(pod: &mut Object) {
    let Some(spec) = map_at(&mut pod.0, &["spec"]) else {
        return;
    };
    set_spec_defaults(spec);
    fill(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| {
            if let Some(resources) = at(container, "resources") {
                requests_from_limits(resources);
            }
        });
    }
    default_pod_level(spec);
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        for list in ["containers", "initContainers"] {
            each(spec, list, |container| each(container, "ports", host_port));
        }
    }
}

/// Of a pod template, whose metadata has none.
pub(in crate::kinds) fn set_template_defaults(template: &mut Map<String, Value>) {
    if let Some(spec) = at(template, "spec") {
        set_spec_defaults(spec);
    }
}

fn set_spec_defaults(spec: &mut Map<String, Value>) {
    service_account(spec);
    fill_empty(spec, "dnsPolicy", "ClusterFirst");
    fill_empty(spec, "restartPolicy", "Always");
    fill(spec, "securityContext", json!({}));
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill_empty(spec, "schedulerName", "default-scheduler");
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, list, container);
    }
    each(spec, "volumes", volume);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are kept, and equal.
fn service_account(spec: &mut Map<String, Value>) {
    let name = |spec: &Map<String, Value>, field: &str| {
        let name = spec.get(field).and_then(Value::as_str).unwrap_or_default();
        (!name.is_empty()).then(|| name.to_owned())
    };
    if let Some(name) = name(spec, "serviceAccountName").or_else(|| name(spec, "serviceAccount")) {
        spec.insert("serviceAccountName".into(), name.clone().into());
        spec.insert("serviceAccount".into(), name.into());
    }
}

fn requests_from_limits(resources: &mut Map<String, Value>) {
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    fill(resources, "requests", json!({}));
    if let Some(requests) = at(resources, "requests") {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

fn host_port(port: &mut Map<String, Value>) {
    let number = port.get("containerPort").cloned().unwrap_or(0.into());
    fill_zero(port, "hostPort", number);
}

fn container(container: &mut Map<String, Value>) {
    let policy = pull_policy(container.get("image").and_then(Value::as_str).unwrap_or_default());
    fill_empty(container, "imagePullPolicy", policy);
    fill_empty(container, "terminationMessagePath", "/dev/termination-log");
    fill_empty(container, "terminationMessagePolicy", "File");
    fill(container, "resources", json!({}));
    each(container, "ports", |port| fill_empty(port, "protocol", "TCP"));
    each(container, "env", |variable| {
        if let Some(field) = map_at(variable, &["valueFrom", "fieldRef"]) {
            fill_empty(field, "apiVersion", "v1");
        }
    });
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = at(container, field) {
            fill_zero(probe, "timeoutSeconds", 1);
            fill_zero(probe, "periodSeconds", 10);
            fill_zero(probe, "successThreshold", 1);
            fill_zero(probe, "failureThreshold", 3);
            if let Some(grpc) = at(probe, "grpc") {
                fill(grpc, "service", "");
            }
            http_get(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = map_at(container, &["lifecycle", hook]) {
            http_get(handler);
        }
    }
}

fn http_get(handler: &mut Map<String, Value>) {
    if let Some(http) = at(handler, "httpGet") {
        fill_empty(http, "path", "/");
        fill_empty(http, "scheme", "HTTP");
    }
}

/// Images named `latest` (or not at all) are pulled always, others once.
pub(in crate::kinds) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // A colon before the last slash belongs to the registry's port.
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
        None if digest.is_some() => "IfNotPresent",
        None => "Always",
    }
}

fn volume(volume: &mut Map<String, Value>) {
    let has_source = volume.iter().any(|(k, v)| k != "name" && !v.is_null());
    if !has_source {
        volume.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = at(volume, source) {
            fill(source, "defaultMode", 0o644);
        }
    }
    if let Some(downward) = at(volume, "downwardAPI") {
        field_refs(downward);
    }
    if let Some(projected) = at(volume, "projected") {
        each(projected, "sources", |source| {
            if let Some(token) = at(source, "serviceAccountToken") {
                fill(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = at(source, "downwardAPI") {
                field_refs(downward);
            }
        });
    }
    if let Some(template) = map_at(volume, &["ephemeral", "volumeClaimTemplate", "spec"]) {
        fill(template, "volumeMode", "Filesystem");
    }
    if let Some(image) = at(volume, "image") {
        let policy = pull_policy(image.get("reference").and_then(Value::as_str).unwrap_or_default());
        fill_empty(image, "pullPolicy", policy);
    }
    volume_source(volume);
}

/// The sources that a volume and a PersistentVolume have in common.
pub(in crate::kinds) fn volume_source(volume: &mut Map<String, Value>) {
    if let Some(path) = at(volume, "hostPath") {
        fill(path, "type", "");
    }
    if let Some(iscsi) = at(volume, "iscsi") {
        fill_empty(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = at(volume, "rbd") {
        fill_empty(rbd, "pool", "rbd");
        fill_empty(rbd, "user", "admin");
        fill_empty(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = at(volume, "azureDisk") {
        fill(disk, "cachingMode", "ReadWrite");
        fill(disk, "kind", "Shared");
        fill(disk, "fsType", "ext4");
        fill(disk, "readOnly", false);
    }
    if let Some(scale_io) = at(volume, "scaleIO") {
        fill_empty(scale_io, "storageMode", "ThinProvisioned");
        fill_empty(scale_io, "fsType", "xfs");
    }
}

fn field_refs(downward: &mut Map<String, Value>) {
    each(downward, "items", |item| {
        if let Some(field) = at(item, "fieldRef") {
            fill_empty(field, "apiVersion", "v1");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_without_a_fixed_tag_are_pulled_always() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
            ("nginx:latest@sha256:0123", "Always"),
            ("", "Always"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
