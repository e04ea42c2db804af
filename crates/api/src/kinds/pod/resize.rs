//! Resizing a running pod: the CPU and memory of its containers, as long as its class stays what it is.

use serde_json::Value;

use super::super::fill::map_at;
use super::super::pod_spec::qos;
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

pub(super) fn validate(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let object = |at: &Cursor<'_>| Object::from_value(at.value().cloned().unwrap_or_default());
    let (Some(now), Some(before)) = (object(new), object(old)) else {
        return;
    };
    let spec = new.at("spec");
    if before.annotation("kubernetes.io/config.mirror").is_some() {
        errors.forbidden(&spec, "static pods cannot be resized");
    }
    if qos::class_of(&now) != qos::class_of(&before) {
        errors.invalid(&spec, "Pod QOS Class may not change as a result of resizing");
    }
    let old_spec = old.at("spec");
    for list in LISTS {
        for (container, before) in spec.at(list).items().zip(old_spec.at(list).items()) {
            let resources = container.at("resources");
            let old_resources = before.at("resources");
            for kind in ["requests", "limits"] {
                let (amounts, old_amounts) = (resources.at(kind), old_resources.at(kind));
                for (name, old_amount) in old_amounts.entries() {
                    let amount = amounts.key(name);
                    match (amount.quantity(), old_amount.quantity()) {
                        (None, Some(_)) => {
                            errors.forbidden(&amounts, format!("resource {kind} cannot be removed"));
                        }
                        (Some(a), Some(b)) if a != b && !matches!(name, "cpu" | "memory") => {
                            errors.forbidden(&amount, "only cpu and memory resources are mutable");
                        }
                        _ => {}
                    }
                }
                for (name, amount) in amounts.entries() {
                    if !matches!(name, "cpu" | "memory") && !old_amounts.key(name).is_set() {
                        errors.forbidden(&amount, "only cpu and memory resources are mutable");
                    }
                }
            }
        }
    }
}
