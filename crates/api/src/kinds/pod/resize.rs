//! Resizing a running pod: the CPU and memory of its containers, as long as its class stays what it is.

use serde_json::Value;

use super::super::check::same;
use super::super::fill::map_at;
use super::super::pod_spec::{MIRROR, qos};
use super::validate_any;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;

const LISTS: [&str; 2] = ["containers", "initContainers"];

/// Takes over the resources (and resize policies) of containers from `asked`, and nothing else.
pub(super) fn take_resources(pod: &mut Object, asked: &Object) {
    let Some(spec) = map_at(&mut pod.0, &["spec"]) else {
        return;
    };
    for list in LISTS {
        let wanted = asked.array(&["spec", list]);
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            let same_name = |c: &&Value| c.get("name") == container.get("name");
            let Some(wanted) = wanted.iter().find(same_name) else {
                continue;
            };
            for field in ["resources", "resizePolicy"] {
                match wanted.get(field).cloned() {
                    Some(value) => container.insert(field.to_owned(), value),
                    None => container.remove(field),
                };
            }
        }
    }
    if let Some(resources) = asked.get(&["spec", "resources"]).cloned() {
        spec.insert("resources".to_owned(), resources);
    }
}

/// What a resize may ask for; a pod that cannot be resized at all is told so and nothing else.
pub(super) fn validate(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let object = |at: &Cursor<'_>| Object::from_value(at.value().cloned().unwrap_or_default());
    let (Some(now), Some(before)) = (object(new), object(old)) else {
        return;
    };
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    if before.annotation(MIRROR).is_some() {
        return errors.forbidden(new, "static pods cannot be resized");
    }
    if old_spec.at("os").at("name").str() == "windows" {
        return errors.forbidden(new, "windows pods cannot be resized");
    }
    validate_any(new, errors);
    if qos::class_of(&now) != qos::class_of(&before) {
        errors.invalid_value(
            &spec,
            &qos::class_of(&before).into(),
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    for (container, before) in spec
        .at("initContainers")
        .items()
        .zip(old_spec.at("initContainers").items())
    {
        if container.at("restartPolicy").str() == "Always" {
            let complaint = "only cpu and memory resources for sidecar containers are mutable";
            one(&spec, &container, &before, complaint, errors);
        } else if !same(container.value(), before.value()) {
            errors.forbidden(&spec, "resources for non-sidecar init containers are immutable");
        }
    }
    for (container, before) in spec.at("containers").items().zip(old_spec.at("containers").items()) {
        let complaint = "only cpu and memory resources are mutable";
        one(&spec, &container, &before, complaint, errors);
    }
}

fn one(spec: &Cursor<'_>, new: &Cursor<'_>, old: &Cursor<'_>, complaint: &str, errors: &mut ErrorList) {
    let (resources, old_resources) = (new.at("resources"), old.at("resources"));
    let mut others_change = !same(resources.at("claims").value(), old_resources.at("claims").value());
    for kind in ["requests", "limits"] {
        let (amounts, old_amounts) = (resources.at(kind), old_resources.at(kind));
        if old_amounts.entries().any(|(name, _)| !amounts.key(name).is_set()) {
            errors.forbidden(&amounts, format!("resource {kind} cannot be removed"));
        }
        let changes = |name: &str| amounts.key(name).quantity() != old_amounts.key(name).quantity();
        let names = amounts.entries().chain(old_amounts.entries()).map(|(name, _)| name);
        others_change |= names.filter(|n| !matches!(*n, "cpu" | "memory")).any(changes);
    }
    if others_change {
        errors.forbidden(spec, complaint);
    }
}
