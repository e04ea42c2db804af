//! Strategic merge patch: a merge patch that knows from the schema which lists merge, by which key, and takes
//! directives: `$patch`, `$retainKeys`, `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.
//!
//! What a patch adds to an absent field is merged into an empty one, so that no directive ever ends up in an object.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{PatchError, show};
use crate::schema::{PatchStrategy, Schema, Shape};

pub(super) const DIRECTIVE: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const SET_ORDER: &str = "$setElementOrder";
pub(super) const DELETE_FROM: &str = "$deleteFromPrimitiveList";

type Result<T> = std::result::Result<T, PatchError>;

/// Applies a decoded strategic merge patch to an object of this schema. On error the object may have been changed in
/// part: work on a copy.
pub fn apply_strategic_patch(object: &mut Value, patch: Value, schema: Schema<'_>) -> Result<()> {
    let (Value::Object(original), Value::Object(patch)) = (object, patch) else {
        return Err(PatchError::Malformed("invalid JSON document".into()));
    };
    let merged = merge_map(std::mem::take(original), patch, Some(schema))?;
    *original = merged;
    Ok(())
}

fn malformed<T>(text: &str) -> Result<T> {
    Err(PatchError::Malformed(text.into()))
}

fn contradictory<T>(text: String) -> Result<T> {
    Err(PatchError::Contradictory(text))
}

fn no_merge_key<T>(map: &Value, key: &str) -> Result<T> {
    contradictory(format!(
        "map: {} does not contain declared merge key: {key}",
        show::plain(map)
    ))
}

/// What the schema says of a field: its own schema and how patches treat it.
pub(super) struct Field<'a> {
    pub(super) schema: Option<Schema<'a>>,
    strategy: Option<&'a PatchStrategy>,
}

impl<'a> Field<'a> {
    pub(super) fn of(parent: Option<Schema<'a>>, name: &str) -> Self {
        let (schema, strategy) = match parent.map(|p| (p, p.shape())) {
            Some((parent, Shape::Object(_))) => {
                let row = parent.property_row(name);
                (parent.property(name), row.map(|r| &r.patch))
            }
            Some((parent, Shape::Map { .. })) => (parent.values(), None),
            _ => (None, None),
        };
        Self { schema, strategy }
    }

    pub(super) fn merges(&self) -> bool {
        self.strategy.is_some_and(|s| s.merge)
    }

    pub(super) fn retains_keys(&self) -> bool {
        self.strategy.is_some_and(|s| s.retain_keys)
    }

    pub(super) fn merge_key(&self) -> Option<&'a str> {
        self.strategy?.merge_key.as_deref()
    }
}

fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: Option<Schema<'_>>,
) -> Result<Map<String, Value>> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => original.clear(),
        Some(Value::String(directive)) if directive == "delete" => return Ok(Map::new()),
        Some(Value::String(directive)) if directive == "merge" => {}
        Some(other) => return unknown_directive(&other, patch),
    }
    if let Some(retained) = patch.remove(RETAIN_KEYS) {
        retain_keys(&mut original, &patch, &retained)?;
    }
    apply_orders(&mut original, &mut patch, schema)?;

    for (key, value) in patch {
        if key.starts_with(DELETE_FROM) {
            let Some(list) = key.strip_prefix(DELETE_FROM).and_then(|k| k.strip_prefix('/')) else {
                return malformed("invalid patch format of primitive list");
            };
            let Value::Array(deleted) = value else {
                return malformed("invalid patch format of primitive list");
            };
            if let Some(Value::Array(items)) = original.get_mut(list) {
                let deleted: std::collections::HashSet<String> = deleted.iter().map(Value::to_string).collect();
                items.retain(|item| !deleted.contains(&item.to_string()));
            }
            continue;
        }
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let field = Field::of(schema, &key);
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => Value::Object(merge_map(old, new, field.schema)?),
            (_, Value::Object(new)) => Value::Object(merge_map(Map::new(), new, field.schema)?),
            (Some(Value::Array(old)), Value::Array(new)) => Value::Array(merge_list(old, new, &field)?),
            (_, Value::Array(new)) => Value::Array(merge_list(Vec::new(), new, &field)?),
            (_, new) => new,
        };
        original.insert(key, merged);
    }
    Ok(original)
}

fn unknown_directive<T>(directive: &Value, mut map: Map<String, Value>) -> Result<T> {
    map.insert(DIRECTIVE.into(), directive.clone());
    contradictory(format!(
        "unknown patch type: {} in map: {}",
        show::plain(directive),
        show::plain(&Value::Object(map))
    ))
}

/// Drops what the patch does not mean to retain; all that it sets must be retained.
fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>, retained: &Value) -> Result<()> {
    let Value::Array(retained) = retained else {
        return malformed("invalid patch format of retainKeys");
    };
    let is_retained = |key: &str| retained.iter().any(|r| r.as_str() == Some(key));
    for (key, value) in patch {
        if !value.is_null() && !key.starts_with(DELETE_FROM) && !key.starts_with(SET_ORDER) && !is_retained(key) {
            return malformed("invalid patch format of retainKeys");
        }
    }
    original.retain(|key, _| is_retained(key));
    Ok(())
}

/// Handles `$setElementOrder/<list>`: merges the list it speaks of and puts it in order. Both leave the patch.
fn apply_orders(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: Option<Schema<'_>>,
) -> Result<()> {
    let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return malformed("invalid patch format of setElementOrder list");
        };
        let Some(list) = directive.strip_prefix(SET_ORDER).and_then(|k| k.strip_prefix('/')) else {
            return malformed("invalid patch format of setElementOrder list");
        };
        let as_list = |value: Option<Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => contradictory(format!(
                "expected a []interface {{}}, but received a {}",
                show::type_name(&other)
            )),
        };
        if patch.get(list).is_some_and(Value::is_null) {
            // The list is removed; its order does not matter.
            continue;
        }
        let field = Field::of(schema, list);
        let live = as_list(original.remove(list))?;
        let patched = as_list(patch.remove(list))?;
        if let Some(patched) = &patched {
            check_order(patched, &order, field.merge_key())?;
        }
        let live_order = idents(live.as_deref().unwrap_or_default(), field.merge_key());
        let merged = match (live, patched) {
            (None, None) => continue,
            (Some(live), None) => live,
            (live, Some(patched)) => merge_list(live.unwrap_or_default(), patched, &field)?,
        };
        let ordered = in_order(merged, &order, &live_order, field.merge_key())?;
        original.insert(list.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

/// The patch's elements must come in the order of the directive, and all be in it.
fn check_order(patched: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<()> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patched.iter().filter(|i| i.get(DIRECTIVE).is_none()) {
        let wanted = required_ident(item, merge_key)?;
        loop {
            let Some(candidate) = rest.next() else {
                return contradictory(format!(
                    "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
                    show::plain(&Value::from(patched)),
                    show::plain(&Value::from(order))
                ));
            };
            if required_ident(candidate, merge_key)? == wanted {
                break;
            }
        }
    }
    Ok(())
}

/// What tells an element from the others: the value under the merge key, or the element itself.
fn ident(item: &Value, merge_key: Option<&str>) -> Option<String> {
    match merge_key {
        Some(key) => item.get(key).map(Value::to_string),
        None => Some(item.to_string()),
    }
}

fn required_ident(item: &Value, merge_key: Option<&str>) -> Result<String> {
    match ident(item, merge_key) {
        Some(ident) => Ok(ident),
        None if item.is_object() => no_merge_key(item, merge_key.unwrap_or_default()),
        None => contradictory(format!(
            "expected a map[string]interface {{}}, but received a {}",
            show::type_name(item)
        )),
    }
}

/// The first position of each element.
fn idents(items: &[Value], merge_key: Option<&str>) -> HashMap<String, usize> {
    let mut positions = HashMap::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        if let Some(ident) = ident(item, merge_key) {
            positions.entry(ident).or_insert(i);
        }
    }
    positions
}

/// Elements of `order` in that order; between them the others, in the order they were in and as near as possible to
/// where they stood.
fn in_order(
    items: Vec<Value>,
    order: &[Value],
    live: &HashMap<String, usize>,
    merge_key: Option<&str>,
) -> Result<Vec<Value>> {
    let mut wanted = HashMap::with_capacity(order.len());
    for (i, item) in order.iter().enumerate() {
        wanted.entry(required_ident(item, merge_key)?).or_insert(i);
    }
    let mut named = Vec::new();
    let mut others = Vec::new();
    for item in items {
        let ident = required_ident(&item, merge_key)?;
        let stood = live.get(&ident).copied();
        match wanted.get(&ident) {
            Some(at) => named.push((*at, stood, item)),
            None => others.push((stood, item)),
        }
    }
    named.sort_by_key(|(at, _, _)| *at);
    others.sort_by_key(|(stood, _)| stood.unwrap_or(usize::MAX));

    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, at, item) in named {
        while let (Some((Some(stood), _)), Some(at)) = (others.peek(), at) {
            if *stood >= at {
                break;
            }
            out.extend(others.next().map(|(_, item)| item));
        }
        out.push(item);
    }
    out.extend(others.map(|(_, item)| item));
    Ok(out)
}

fn merge_list(original: Vec<Value>, patch: Vec<Value>, field: &Field<'_>) -> Result<Vec<Value>> {
    if !field.merges() {
        return Ok(patch);
    }
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let is_map_list = patch.iter().chain(&original).next().is_some_and(Value::is_object);
    let mut all = patch.iter().chain(&original);
    if all.any(Value::is_array) {
        return Err(PatchError::Inapplicable("lists of lists are not supported".into()));
    }
    if patch.iter().chain(&original).any(|v| v.is_object() != is_map_list) {
        return contradictory(format!(
            "list element types are not identical: [{} {}]",
            show::plain(&Value::Array(original)),
            show::plain(&Value::Array(patch))
        ));
    }
    if !is_map_list {
        let live = idents(&original, None);
        let mut merged = original;
        let mut seen = live.clone();
        for item in &patch {
            if seen.insert(item.to_string(), 0).is_none() {
                merged.push(item.clone());
            }
        }
        return in_order(merged, &patch, &live, None);
    }
    let Some(merge_key) = field.merge_key() else {
        return contradictory("cannot merge lists without merge key for map".into());
    };
    merge_maps(original, patch, merge_key, field.schema.and_then(|s| s.items()))
}

fn merge_maps(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
    items: Option<Schema<'_>>,
) -> Result<Vec<Value>> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replaces = false;
    let mut deleted = std::collections::HashSet::new();
    for item in patch {
        match item.get(DIRECTIVE) {
            None => {
                required_ident(&item, Some(merge_key))?;
                plain.push(item);
            }
            Some(Value::String(directive)) => match directive.as_str() {
                "delete" => {
                    deleted.insert(required_ident(&item, Some(merge_key))?);
                }
                "replace" => replaces = true,
                "merge" => return contradictory("merging lists cannot yet be specified in the patch".into()),
                _ => return unknown_item_directive(&item),
            },
            Some(_) => return unknown_item_directive(&item),
        }
    }
    if replaces {
        original.clear();
    }
    original.retain(|item| ident(item, Some(merge_key)).is_none_or(|i| !deleted.contains(&i)));
    let live = idents(&original, Some(merge_key));
    let mut positions = live.clone();
    let order: Vec<Value> = plain
        .iter()
        .map(|item| {
            Value::Object(
                item.as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(k, _)| *k == merge_key)
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect(),
            )
        })
        .collect();
    for item in plain {
        let ident = required_ident(&item, Some(merge_key))?;
        let Value::Object(new) = item else { continue };
        match positions.get(&ident).and_then(|at| original.get_mut(*at)) {
            Some(slot) => {
                let old = match slot.take() {
                    Value::Object(old) => old,
                    _ => Map::new(),
                };
                *slot = Value::Object(merge_map(old, new, items)?);
            }
            None => {
                positions.insert(ident, original.len());
                original.push(Value::Object(merge_map(Map::new(), new, items)?));
            }
        }
    }
    in_order(original, &order, &live, Some(merge_key))
}

fn unknown_item_directive<T>(item: &Value) -> Result<T> {
    contradictory(format!(
        "unknown patch type: {} in map: {}",
        show::plain(item.get(DIRECTIVE).unwrap_or(&Value::Null)),
        show::plain(item)
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{POD, pod_schemas};
    use super::*;
    use serde_json::json;

    fn patched(object: Value, patch: Value) -> Result<Value> {
        let schemas = pod_schemas();
        let mut object = object;
        apply_strategic_patch(&mut object, patch, schemas.at(POD)).map(|()| object)
    }

    fn names(object: &Value, list: &str) -> Vec<String> {
        object["spec"][list]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c.get("name").unwrap_or(c).as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn lists_with_a_merge_key_merge_by_it() {
        let pod = json!({"spec": {"containers": [
            {"name": "a", "image": "1", "ports": [{"containerPort": 80, "name": "http"}]},
            {"name": "b", "image": "1"},
        ]}});
        let result = patched(
            pod,
            json!({"spec": {"containers": [
                {"name": "a", "ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 81}]},
                {"name": "c", "image": "3"},
            ]}}),
        )
        .unwrap();
        assert_eq!(
            result,
            json!({"spec": {"containers": [
                {"name": "a", "image": "1", "ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 81}]},
                {"name": "c", "image": "3"},
                {"name": "b", "image": "1"},
            ]}})
        );
    }

    #[test]
    fn lists_without_strategy_and_scalars_are_replaced_and_null_removes() {
        let pod = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"args": ["x", "y"], "nodeName": "n"}});
        let result = patched(
            pod,
            json!({"metadata": {"labels": {"a": null, "c": "3"}}, "spec": {"args": ["z"], "nodeName": null}}),
        )
        .unwrap();
        assert_eq!(
            result,
            json!({"metadata": {"labels": {"b": "2", "c": "3"}}, "spec": {"args": ["z"]}})
        );
    }

    #[test]
    fn directives_delete_and_replace_elements_and_maps() {
        let pod =
            || json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        let result = patched(
            pod(),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
        )
        .unwrap();
        assert_eq!(names(&result, "containers"), ["b"]);
        let result = patched(
            pod(),
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}}),
        )
        .unwrap();
        assert_eq!(names(&result, "containers"), ["c"]);
        let result = patched(pod(), json!({"metadata": {"labels": {"$patch": "replace", "z": "1"}}})).unwrap();
        assert_eq!(result["metadata"], json!({"labels": {"z": "1"}}));
        let result = patched(pod(), json!({"metadata": {"labels": {"$patch": "delete"}}})).unwrap();
        assert_eq!(result["metadata"], json!({"labels": {}}));
    }

    #[test]
    fn no_directive_ends_up_in_the_object() {
        let result = patched(
            json!({}),
            json!({"spec": {
                "$setElementOrder/containers": [{"name": "a"}],
                "$deleteFromPrimitiveList/finalizers": ["x"],
                "containers": [{"name": "a"}, {"name": "b", "$patch": "delete"}],
                "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
            }}),
        )
        .unwrap();
        assert_eq!(
            result,
            json!({"spec": {"containers": [{"name": "a"}], "strategy": {"type": "Recreate"}}})
        );
    }

    #[test]
    fn retained_keys_drop_the_others() {
        let pod = || json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let result = patched(
            pod(),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        )
        .unwrap();
        assert_eq!(result, json!({"spec": {"strategy": {"type": "Recreate"}}}));
        assert_eq!(
            patched(
                pod(),
                json!({"spec": {"strategy": {"$retainKeys": ["x"], "type": "Recreate"}}})
            )
            .unwrap_err(),
            PatchError::Malformed("invalid patch format of retainKeys".into())
        );
    }

    #[test]
    fn element_order_is_the_patchs_with_the_servers_elements_in_their_places() {
        let pod = json!({"spec": {"containers": [{"name": "s1"}, {"name": "a"}, {"name": "s2"}, {"name": "b"}, {"name": "s3"}]}});
        let result = patched(
            pod.clone(),
            json!({"spec": {
                "$setElementOrder/containers": [{"name": "b"}, {"name": "new"}, {"name": "a"}],
                "containers": [{"name": "b", "image": "x"}, {"name": "new"}],
            }}),
        )
        .unwrap();
        assert_eq!(names(&result, "containers"), ["s1", "s2", "b", "new", "a", "s3"]);
        let result = patched(
            pod.clone(),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
        );
        assert_eq!(names(&result.unwrap(), "containers"), ["s1", "s2", "b", "a", "s3"]);
        let error = patched(
            pod,
            json!({"spec": {
                "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
                "containers": [{"name": "b"}, {"name": "a"}],
            }}),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "The order in patch list:\n[map[name:b] map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:a] \
             map[name:b]]\n"
        );
    }

    #[test]
    fn lists_of_primitives_merge_as_sets() {
        let pod = json!({"spec": {"finalizers": ["a", "b", "c"]}});
        let result = patched(
            pod,
            json!({"spec": {
                "$setElementOrder/finalizers": ["d", "c", "b"],
                "$deleteFromPrimitiveList/finalizers": ["a"],
                "finalizers": ["d"],
            }}),
        )
        .unwrap();
        assert_eq!(names(&result, "finalizers"), ["d", "c", "b"]);
    }

    #[test]
    fn what_does_not_fit_is_refused_in_upstreams_words() {
        let pod = || json!({"spec": {"containers": [{"name": "a"}], "finalizers": ["x"]}});
        for (patch, text) in [
            (
                json!({"spec": {"containers": [{"image": "x"}]}}),
                "map: map[image:x] does not contain declared merge key: name",
            ),
            (
                json!({"spec": {"containers": [{"name": "a", "$patch": "melt"}]}}),
                "unknown patch type: melt in map: map[$patch:melt name:a]",
            ),
            (
                json!({"spec": {"$patch": "melt"}}),
                "unknown patch type: melt in map: map[$patch:melt]",
            ),
            (
                json!({"spec": {"containers": [{"name": "a", "$patch": "merge"}]}}),
                "merging lists cannot yet be specified in the patch",
            ),
            (
                json!({"spec": {"containers": ["x"]}}),
                "list element types are not identical: [[map[name:a]] [x]]",
            ),
            (
                json!({"spec": {"$setElementOrder/containers": ["x"]}}),
                "expected a map[string]interface {}, but received a string",
            ),
        ] {
            assert_eq!(
                patched(pod(), patch).unwrap_err(),
                PatchError::Contradictory(text.into())
            );
        }
        for (patch, text) in [
            (
                json!({"spec": {"$deleteFromPrimitiveList": []}}),
                "invalid patch format of primitive list",
            ),
            (
                json!({"spec": {"$setElementOrder/containers": 1}}),
                "invalid patch format of setElementOrder list",
            ),
        ] {
            assert_eq!(patched(pod(), patch).unwrap_err(), PatchError::Malformed(text.into()));
        }
    }
}
