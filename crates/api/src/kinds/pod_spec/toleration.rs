//! Tolerations, and the effects of taints that they speak of.

use serde_json::Value;

use super::super::check::same;
use crate::field::{Cursor, ErrorList};
use crate::names;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// The effect of a taint.
pub(in crate::kinds) fn taint_effect(place: &Cursor<'_>, effect: &str, errors: &mut ErrorList) {
    if effect.is_empty() {
        errors.required(place, "");
    } else if !EFFECTS.contains(&effect) {
        errors.not_supported_value(place, &effect.into(), &EFFECTS);
    }
}

pub(in crate::kinds) fn validate(tolerations: &Cursor<'_>, errors: &mut ErrorList) {
    for toleration in tolerations.items() {
        let key = toleration.at("key");
        let operator = toleration.at("operator");
        let value = toleration.at("value");
        let effect = toleration.at("effect");
        if !key.is_empty() {
            errors.faults(&key, names::qualified_name(key.str()));
        } else if operator.str() != "Exists" {
            errors.invalid_value(
                &operator,
                &operator.str().into(),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.at("tolerationSeconds").is_set() && effect.str() != "NoExecute" {
            errors.invalid_value(
                &effect,
                &effect.str().into(),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator.str() {
            "" | "Equal" => {
                let faults = names::label_value(value.str());
                if !faults.is_empty() {
                    errors.invalid_value(&operator, &value.str().into(), faults.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid_value(
                    &operator,
                    &value.str().into(),
                    "value must be empty when `operator` is 'Exists'",
                );
            }
            "Exists" => {}
            _ => errors.not_supported(&operator, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            taint_effect(&effect, effect.str(), errors);
        }
    }
}

/// An update may add tolerations, and change for how long one tolerates.
pub(super) fn only_additions(new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(map) = toleration.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        toleration
    };
    let list = |at: &Cursor<'_>| -> Vec<Value> {
        let items = at.value().and_then(Value::as_array);
        items.into_iter().flatten().map(without_seconds).collect()
    };
    let now = list(new);
    let kept = |old: &Value| now.iter().any(|new| same(Some(old), Some(new)));
    if !list(old).iter().all(kept) {
        errors.forbidden(
            new,
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}
