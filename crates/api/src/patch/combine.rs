//! Objects put together from a live one and an applied configuration, and fields taken out of objects. Whose fields
//! they are is decided elsewhere.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::atom::{Atom, Type, step_of};
use super::fields::{FieldSet, Step};
use crate::schema::ListType;

/// `live` with what `config` sets. Nothing is removed; where both set a leaf, `config` wins. The elements of a list
/// come in the order of `config`, those of `live` alone near their neighbours.
pub(super) fn merged(of: Type<'_>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let (Some(a), Some(b)) = (live, config) else {
        return live.or(config).cloned();
    };
    match of.atom(b) {
        Atom::Leaf => Some(b.clone()),
        Atom::Map => {
            let (a, b_map) = (a.as_object(), b.as_object());
            if a.is_none_or(Map::is_empty) && b_map.is_none_or(Map::is_empty) {
                return Some(b.clone());
            }
            let mut out = Map::new();
            for (key, value) in a.into_iter().flatten() {
                let new = b_map.and_then(|m| m.get(key));
                if let Some(value) = merged(of.field(key), Some(value), new) {
                    out.insert(key.clone(), value);
                }
            }
            for (key, value) in b_map.into_iter().flatten() {
                if !a.is_some_and(|m| m.contains_key(key)) {
                    out.insert(key.clone(), value.clone());
                }
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        Atom::List { items, list_type } => {
            let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
            let (a, b_list) = (list(a), list(b));
            if a.is_empty() && b_list.is_empty() {
                return Some(b.clone());
            }
            let out = merged_list(items, list_type, &a, &b_list);
            (!out.is_empty()).then_some(Value::Array(out))
        }
    }
}

fn merged_list(items: Type<'_>, list_type: &ListType, live: &[Value], config: &[Value]) -> Vec<Value> {
    // Elements without a path element cannot be in a configuration that was checked; live ones stay where they are.
    let steps = |list: &[Value]| -> Vec<Option<Step>> {
        list.iter().map(|item| step_of(items, list_type, item).ok()).collect()
    };
    let (live_steps, config_steps) = (steps(live), steps(config));
    // Where each live element is first, and how often it is there.
    let mut places: HashMap<String, (usize, usize)> = HashMap::new();
    for (i, step) in live_steps.iter().enumerate() {
        if let Some(step) = step {
            places.entry(step.to_string()).or_insert((i, 0)).1 += 1;
        }
    }
    let in_config: HashSet<String> = config_steps.iter().flatten().map(ToString::to_string).collect();
    let name = |step: &Option<Step>| step.as_ref().map(ToString::to_string);
    // The elements that both have, in the configuration's order.
    let mut shared = config_steps
        .iter()
        .flatten()
        .map(ToString::to_string)
        .filter(|s| places.contains_key(s));
    let mut next_shared = shared.next();

    // One that is several times in the live list is replaced, not merged.
    let partner = |step: &Option<String>| match step.as_ref().and_then(|s| places.get(s)) {
        Some((at, 1)) => live.get(*at),
        _ => None,
    };
    let mut done: HashSet<String> = HashSet::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let (mut l, mut r) = (0, 0);
    while l < live.len() || r < config.len() {
        let left = live_steps.get(l).and_then(name);
        let right = config_steps.get(r).and_then(name);
        if l < live.len() && r < config.len() {
            if left.is_some() && left == right {
                out.extend(merged(items, partner(&right), config.get(r)));
                done.extend(right);
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            let is_shared = left.as_ref().is_some_and(|s| in_config.contains(s));
            if is_shared && next_shared.is_some() && next_shared != left {
                // It comes later.
                l += 1;
                continue;
            }
        }
        if l < live.len() {
            match &left {
                Some(step) if in_config.contains(step) => {
                    if done.contains(step) {
                        l += 1;
                        continue;
                    }
                }
                _ => {
                    out.extend(live.get(l).cloned());
                    l += 1;
                    continue;
                }
            }
        }
        if r < config.len() {
            out.extend(merged(items, partner(&right), config.get(r)));
            if right.is_some() && right == next_shared {
                next_shared = shared.next();
            }
            done.extend(right);
            r += 1;
        } else {
            l += 1;
        }
    }
    out
}

/// The value without these fields; `None` when nothing is left of a container that had something.
pub(super) fn removed(of: Type<'_>, value: Value, fields: &FieldSet) -> Option<Value> {
    if fields.children().is_empty() {
        return Some(value);
    }
    match (of.atom(&value), value) {
        (Atom::Map, Value::Object(map)) => {
            let out: Map<String, Value> = map
                .into_iter()
                .filter_map(|(key, value)| match fields.field(&key) {
                    None => Some((key, value)),
                    Some(below) if below.is_member() => None,
                    Some(below) => removed(of.field(&key), value, below).map(|value| (key, value)),
                })
                .collect();
            (!out.is_empty()).then_some(Value::Object(out))
        }
        (Atom::List { items, list_type }, Value::Array(list)) => {
            let out: Vec<Value> = list
                .into_iter()
                .filter_map(|item| {
                    let step = step_of(items, list_type, &item).ok();
                    match step.and_then(|s| fields.child(&s)) {
                        None => Some(item),
                        Some(below) if below.is_member() => None,
                        Some(below) => removed(items, item, below),
                    }
                })
                .collect();
            (!out.is_empty()).then_some(Value::Array(out))
        }
        (_, value) => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{POD, pod_schemas};
    use super::*;
    use serde_json::json;

    fn merge(live: Value, config: Value) -> Value {
        let schemas = pod_schemas();
        merged(Type::root(schemas.at(POD)), Some(&live), Some(&config)).unwrap()
    }

    fn order(live: &[&str], config: &[&str]) -> Vec<String> {
        let list = |names: &[&str]| json!({"spec": {"finalizers": names}});
        let out = merge(list(live), list(config));
        out["spec"]["finalizers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_configuration_adds_and_overrides_and_removes_nothing() {
        assert_eq!(
            merge(
                json!({"spec": {"replicas": 1, "nodeName": "n", "args": ["a"], "containers": [{"name": "a", "image": "1"}]}}),
                json!({"spec": {"replicas": 2, "args": ["b"], "containers": [{"name": "b"}, {"name": "a", "stdin": true}]}}),
            ),
            json!({"spec": {
                "replicas": 2,
                "nodeName": "n",
                "args": ["b"],
                "containers": [{"name": "b"}, {"name": "a", "image": "1", "stdin": true}],
            }})
        );
        assert_eq!(
            merge(json!({"data": {"a": "1"}}), json!({"data": {}})),
            json!({"data": {"a": "1"}})
        );
    }

    #[test]
    fn elements_come_in_the_configurations_order_and_others_stay_near() {
        for (live, config, result) in [
            (&["a", "b", "c"][..], &["c", "b"][..], &["a", "c", "b"][..]),
            (&["a", "b", "c"], &["x", "b"], &["a", "x", "b", "c"]),
            (&["a", "b"], &["c"], &["a", "b", "c"]),
            (&["a", "b", "c", "d"], &["d", "a"], &["b", "c", "d", "a"]),
            (&[], &["b", "a"], &["b", "a"]),
            (&["a", "a", "b"], &["a"], &["a", "b"]),
        ] {
            assert_eq!(order(live, config), result, "{live:?} + {config:?}");
        }
    }

    #[test]
    fn a_container_left_empty_goes_and_one_that_was_empty_stays() {
        let schemas = pod_schemas();
        let root = Type::root(schemas.at(POD));
        let object = json!({"data": {"a": "1"}, "metadata": {"labels": {}}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        let fields = json!({
            "f:data": {"f:a": {}},
            "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {}}},
        });
        let fields = FieldSet::from_json(fields.as_object().unwrap()).unwrap();
        assert_eq!(
            removed(root, object, &fields).unwrap(),
            json!({"metadata": {"labels": {}}, "spec": {"containers": [{"name": "b"}]}})
        );
    }
}
