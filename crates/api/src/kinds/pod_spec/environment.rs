//! A container's environment: variables, where their values come from, and the downward API that volumes use too.

use super::super::check::not_empty;
use super::volume_source::local_path;
use crate::field::{Cursor, ErrorList};
use crate::names;

/// What a variable may take from its pod.
const VARIABLE_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What a file may take from its pod.
pub(super) const FILE_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// All fields that the downward API knows, subscripted ones apart.
const KNOWN_FIELDS: [&str; 12] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.labels",
    "metadata.annotations",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const BYTE_DIVISORS: [&str; 13] = [
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

pub(super) fn variables(env: &Cursor<'_>, errors: &mut ErrorList) {
    for variable in env.items() {
        let name = variable.at("name");
        if name.is_empty() {
            errors.required(&name, "");
        } else {
            errors.faults(&name, names::env_var_name(name.str()));
        }
        let from = variable.at("valueFrom");
        if from.is_set() {
            value_from(&from, &variable.at("value"), errors);
        }
    }
}

fn value_from(from: &Cursor<'_>, value: &Cursor<'_>, errors: &mut ErrorList) {
    let mut sources = 0;
    let field = from.at("fieldRef");
    if field.is_set() {
        sources += 1;
        field_ref(&field, &field, &VARIABLE_FIELDS, errors);
    }
    let resource = from.at("resourceFieldRef");
    if resource.is_set() {
        sources += 1;
        resource_field_ref(&resource, &resource, false, errors);
    }
    for source in ["configMapKeyRef", "secretKeyRef"] {
        let source = from.at(source);
        if source.is_set() {
            sources += 1;
            key_ref(&source, errors);
        }
    }
    let file = from.at("fileKeyRef");
    if file.is_set() {
        sources += 1;
        let key = file.at("key");
        if key.is_empty() {
            errors.required(&key, "");
        } else {
            errors.faults(&key, names::env_var_name(key.str()));
        }
        not_empty(&file.at("volumeName"), errors);
        let path = file.at("path");
        if path.is_empty() {
            errors.required(&path, "");
        } else {
            local_path(&path, errors);
        }
    }
    let complaint = match sources {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        _ if !value.is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.invalid_value(from, &"".into(), complaint);
}

fn key_ref(source: &Cursor<'_>, errors: &mut ErrorList) {
    let name = source.at("name");
    for fault in names::dns1123_subdomain(name.str()) {
        errors.invalid_value(&name, &name.str().into(), fault);
    }
    let key = source.at("key");
    if key.is_empty() {
        errors.required(&key, "");
    } else {
        errors.faults(&key, names::config_map_key(key.str()));
    }
}

/// A field of the pod; `place` is where upstream says it is.
pub(super) fn field_ref(field: &Cursor<'_>, place: &Cursor<'_>, supported: &[&str], errors: &mut ErrorList) {
    let (version, path) = (field.at("apiVersion"), field.at("fieldPath"));
    for (part, name) in [(&version, "apiVersion"), (&path, "fieldPath")] {
        if part.is_empty() {
            errors.required(&place.said(name), "");
            return;
        }
    }
    let text = path.str();
    let at_path = place.said("fieldPath");
    if let Some((base, key)) = subscripted(text) {
        let faults = match base {
            "metadata.annotations" => names::qualified_name(&key.to_lowercase()),
            "metadata.labels" => names::qualified_name(key),
            _ => vec!["does not support subscript".to_owned()],
        };
        let shown = if base.starts_with("metadata.") { key } else { base };
        for fault in faults {
            errors.invalid_value(place, &shown.into(), fault);
        }
    } else if version.str() != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {}", version.str());
        errors.invalid_value(&at_path, &text.into(), detail);
    } else if !KNOWN_FIELDS.contains(&text) {
        let detail = format!("error converting fieldPath: field label not supported: {text}");
        errors.invalid_value(&at_path, &text.into(), detail);
    } else if !supported.contains(&text) {
        errors.not_supported_value(&at_path, &text.into(), supported);
    }
}

/// `metadata.labels['app']` is (`metadata.labels`, `app`).
fn subscripted(path: &str) -> Option<(&str, &str)> {
    let (base, rest) = path.split_once("['")?;
    Some((base, rest.strip_suffix("']")?))
}

/// What a container may take; `place` is where upstream says it is.
pub(super) fn resource_field_ref(field: &Cursor<'_>, place: &Cursor<'_>, in_volume: bool, errors: &mut ErrorList) {
    let name = field.at("resource").str();
    let huge_page = name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-");
    if in_volume && field.at("containerName").is_empty() {
        errors.required(&place.said("containerName"), "");
    } else if name.is_empty() {
        errors.required(&place.said("resource"), "");
    } else if !RESOURCES.contains(&name) && !huge_page {
        errors.not_supported_value(&place.said("resource"), &name.into(), &RESOURCES);
    }
    let Some(quantity) = field.at("divisor").quantity().filter(|q| !q.is_zero()) else {
        return;
    };
    let (fine, what) = match name {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"][..], "1m and 1 are supported with the cpu resource"),
        "limits.memory" | "requests.memory" => (
            &BYTE_DIVISORS[..],
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource",
        ),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (
            &BYTE_DIVISORS[..],
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the local ephemeral storage \
             resource",
        ),
        _ if huge_page => (
            &BYTE_DIVISORS[..],
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the hugepages resource",
        ),
        _ => return,
    };
    if !fine.contains(&quantity.to_string().as_str()) {
        errors.invalid_value(
            &place.said("divisor"),
            &name.into(),
            format!("only divisor's values {what}"),
        );
    }
}

pub(super) fn sources(list: &Cursor<'_>, errors: &mut ErrorList) {
    for source in list.items() {
        let prefix = source.at("prefix");
        if !prefix.is_empty() {
            errors.faults(&prefix, names::env_var_name(prefix.str()));
        }
        let mut count = 0;
        for field in ["configMapRef", "secretRef"] {
            let reference = source.at(field);
            if !reference.is_set() {
                continue;
            }
            count += 1;
            let name = reference.at("name");
            if name.is_empty() {
                errors.required(&name, "");
            } else {
                errors.faults(
                    &name,
                    names::object_name(crate::strategy::NameRule::DnsSubdomain, name.str(), true),
                );
            }
        }
        let complaint = match count {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        // Upstream tells of the list as a whole.
        errors.invalid_value(list, &"".into(), complaint);
    }
}
