//! `matchLabelKeys` and `mismatchLabelKeys`: label keys whose value is the pod's own. At creation they become
//! expressions in the selector beside them, so that nobody else has to know of them.

use serde_json::{Value, json};

use super::super::fill::{each, map_at, map_made};
use crate::object::Object;

pub(super) fn into_selectors(pod: &mut Object) {
    let labels = pod
        .get(&["metadata", "labels"])
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let Some(spec) = map_at(&mut pod.0, &["spec"]) else {
        return;
    };
    let merge = |term: &mut serde_json::Map<String, Value>| {
        for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            let keys = term.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
            let added: Vec<Value> = keys
                .iter()
                .filter_map(|key| {
                    let value = labels.get(key.as_str()?)?;
                    Some(json!({"key": key, "operator": operator, "values": [value]}))
                })
                .collect();
            let has_selector = term.get("labelSelector").is_some_and(Value::is_object);
            if added.is_empty() || !has_selector {
                continue;
            }
            if let Some(selector) = map_made(term, "labelSelector") {
                let list = selector.entry("matchExpressions").or_insert_with(|| json!([]));
                if let Some(list) = list.as_array_mut() {
                    list.extend(added);
                }
            }
        }
    };
    each(spec, "topologySpreadConstraints", merge);
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = map_at(spec, &["affinity", kind]) else {
            continue;
        };
        each(affinity, "requiredDuringSchedulingIgnoredDuringExecution", merge);
        each(affinity, "preferredDuringSchedulingIgnoredDuringExecution", |term| {
            if let Some(term) = map_at(term, &["podAffinityTerm"]) {
                merge(term);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_expressions_with_the_pods_own_values() {
        let term = json!({"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone",
            "matchLabelKeys": ["hash", "absent"], "mismatchLabelKeys": ["tenant"]});
        let mut pod = Object::from_value(json!({
            "metadata": {"labels": {"hash": "1", "tenant": "a"}},
            "spec": {
                "topologySpreadConstraints": [{"labelSelector": {}, "matchLabelKeys": ["hash"]}],
                "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
            },
        }))
        .unwrap();
        into_selectors(&mut pod);
        let hash = json!({"key": "hash", "operator": "In", "values": ["1"]});
        let tenant = json!({"key": "tenant", "operator": "NotIn", "values": ["a"]});
        let spec = pod.get(&["spec"]).unwrap();
        assert_eq!(
            spec.pointer("/topologySpreadConstraints/0/labelSelector/matchExpressions"),
            Some(&json!([hash]))
        );
        assert_eq!(
            spec.pointer(
                "/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/labelSelector/matchExpressions"
            ),
            Some(&json!([hash, tenant]))
        );
    }
}
