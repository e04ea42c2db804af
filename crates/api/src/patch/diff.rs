//! The patches that turn one object into another: what a client sends, and what tests apply back.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::strategic::{DELETE_FROM, DIRECTIVE, Field, RETAIN_KEYS, SET_ORDER};
use crate::schema::Schema;

/// The merge patch from `original` to `modified`. Nulls in `modified` cannot be expressed.
pub fn create_merge_patch(original: &Value, modified: &Value) -> Value {
    let (Value::Object(original), Value::Object(modified)) = (original, modified) else {
        return modified.clone();
    };
    let mut patch = Map::new();
    for (key, new) in modified {
        match original.get(key) {
            Some(old) if old == new => {}
            Some(old) if old.is_object() && new.is_object() => {
                patch.insert(key.clone(), create_merge_patch(old, new));
            }
            _ => {
                patch.insert(key.clone(), new.clone());
            }
        }
    }
    for key in original.keys().filter(|k| !modified.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// The strategic merge patch from `original` to `modified`, both of this schema.
pub fn create_strategic_patch(original: &Value, modified: &Value, schema: Schema<'_>) -> Value {
    match (original, modified) {
        (Value::Object(original), Value::Object(modified)) => {
            Value::Object(diff_maps(original, modified, Some(schema), false))
        }
        _ => modified.clone(),
    }
}

fn diff_maps(
    original: &Map<String, Value>,
    modified: &Map<String, Value>,
    schema: Option<Schema<'_>>,
    retains_keys: bool,
) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, new) in modified {
        let field = Field::of(schema, key);
        match (original.get(key), new) {
            (Some(old), new) if old == new => {}
            (Some(Value::Object(old)), Value::Object(new)) => {
                let inner = diff_maps(old, new, field.schema, field.retains_keys());
                patch.insert(key.clone(), Value::Object(inner));
            }
            (Some(Value::Array(old)), Value::Array(new)) if field.merges() && !old.is_empty() => {
                diff_lists(key, old, new, &field, &mut patch);
            }
            (_, new) => {
                patch.insert(key.clone(), new.clone());
            }
        }
    }
    let gone: Vec<&String> = original.keys().filter(|k| !modified.contains_key(*k)).collect();
    if retains_keys && (!patch.is_empty() || !gone.is_empty()) && !modified.is_empty() {
        patch.insert(RETAIN_KEYS.into(), modified.keys().cloned().collect());
    }
    for key in gone {
        patch.insert(key.clone(), Value::Null);
    }
    patch
}

fn diff_lists(key: &str, old: &[Value], new: &[Value], field: &Field<'_>, patch: &mut Map<String, Value>) {
    let Some(merge_key) = field.merge_key() else {
        let added: Vec<&Value> = new.iter().filter(|v| !old.contains(v)).collect();
        let deleted: Vec<&Value> = old.iter().filter(|v| !new.contains(v)).collect();
        if !added.is_empty() {
            patch.insert(key.to_owned(), json!(added));
        }
        if !deleted.is_empty() {
            patch.insert(format!("{DELETE_FROM}/{key}"), json!(deleted));
        }
        patch.insert(format!("{SET_ORDER}/{key}"), json!(new));
        return;
    };
    let ident = |v: &Value| v.get(merge_key).unwrap_or(&Value::Null).to_string();
    let before: HashMap<String, &Value> = old.iter().map(|v| (ident(v), v)).collect();
    let after: HashMap<String, &Value> = new.iter().map(|v| (ident(v), v)).collect();
    let items = field.schema.and_then(|s| s.items());
    let mut elements = Vec::new();
    for item in new {
        match (before.get(&ident(item)), item) {
            (Some(old), item) if *old == item => {}
            (Some(Value::Object(old)), Value::Object(item)) => {
                let mut inner = diff_maps(old, item, items, false);
                inner.insert(merge_key.to_owned(), item.get(merge_key).cloned().unwrap_or_default());
                elements.push(Value::Object(inner));
            }
            _ => elements.push(item.clone()),
        }
    }
    for gone in old.iter().filter(|v| !after.contains_key(&ident(v))) {
        let key = gone.get(merge_key).cloned().unwrap_or_default();
        elements.push(json!({DIRECTIVE: "delete", merge_key: key}));
    }
    if !elements.is_empty() {
        patch.insert(key.to_owned(), Value::Array(elements));
    }
    let order = new
        .iter()
        .map(|v| json!({merge_key: v.get(merge_key).cloned().unwrap_or_default()}));
    patch.insert(format!("{SET_ORDER}/{key}"), Value::Array(order.collect()));
}

#[cfg(test)]
mod tests {
    use super::super::testing::{POD, arbitrary, pod_schemas};
    use super::super::{apply_json_patch, apply_merge_patch, apply_strategic_patch};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_strategic_patch_says_no_more_than_what_changed() {
        let schemas = pod_schemas();
        let old = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}], "nodeName": "n"}});
        let new = json!({"spec": {"containers": [{"name": "a", "image": "2"}]}});
        assert_eq!(
            create_strategic_patch(&old, &new, schemas.at(POD)),
            json!({"spec": {
                "$setElementOrder/containers": [{"name": "a"}],
                "containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}],
                "nodeName": null,
            }})
        );
        assert_eq!(create_strategic_patch(&old, &old, schemas.at(POD)), json!({}));
    }

    proptest! {
        #[test]
        fn a_merge_patch_leads_from_one_object_to_the_other(a in any::<u64>(), b in any::<u64>()) {
            let schemas = pod_schemas();
            let (a, b) = (arbitrary(schemas.at(POD), a), arbitrary(schemas.at(POD), b));
            let mut object = a.clone();
            apply_merge_patch(&mut object, create_merge_patch(&a, &b)).unwrap();
            prop_assert_eq!(object, b);
        }

        #[test]
        fn a_strategic_patch_leads_from_one_object_to_the_other(a in any::<u64>(), b in any::<u64>()) {
            let schemas = pod_schemas();
            let (a, b) = (arbitrary(schemas.at(POD), a), arbitrary(schemas.at(POD), b));
            let patch = create_strategic_patch(&a, &b, schemas.at(POD));
            let mut object = a.clone();
            apply_strategic_patch(&mut object, patch.clone(), schemas.at(POD)).unwrap();
            prop_assert_eq!(&object, &b, "{}", patch);
            // And what is there already stays.
            apply_strategic_patch(&mut object, patch, schemas.at(POD)).unwrap();
            prop_assert_eq!(object, b);
        }

        #[test]
        fn no_patch_makes_an_engine_fail_otherwise_than_by_an_error(
            a in any::<u64>(), b in any::<u64>(), path in "(/[a-z0-9-]{0,3}){0,3}"
        ) {
            let schemas = pod_schemas();
            let mut object = arbitrary(schemas.at(POD), a);
            let other = arbitrary(schemas.at(POD), b);
            let _ = apply_strategic_patch(&mut object.clone(), json!({"spec": {"$retainKeys": other, "$patch": path}}), schemas.at(POD));
            for op in ["add", "remove", "replace", "test", "move", "copy"] {
                let _ = apply_json_patch(&mut object, &json!([{"op": op, "path": path, "from": path, "value": 1}]));
            }
        }
    }
}
