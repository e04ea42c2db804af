//! Strategic merge patch: a merge patch that knows from the schema which lists merge, by which key, and takes
//! directives: `$patch`, `$retainKeys`, `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.
//!
//! What a patch adds to an absent field is merged into an empty one, so that no directive ever ends up in an object.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::elements::{check_order, idents, in_order, merge_list};
use super::{PatchError, show};
use crate::schema::{PatchStrategy, Schema, Shape};

pub(super) const DIRECTIVE: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const SET_ORDER: &str = "$setElementOrder";
pub(super) const DELETE_FROM: &str = "$deleteFromPrimitiveList";

pub(super) type Result<T> = std::result::Result<T, PatchError>;

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

pub(super) fn contradictory<T>(text: String) -> Result<T> {
    Err(PatchError::Contradictory(text))
}

pub(super) fn no_merge_key<T>(map: &Value, key: &str) -> Result<T> {
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

pub(super) fn merge_map(
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
                let deleted: HashSet<String> = deleted.iter().map(Value::to_string).collect();
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
    let retained: HashSet<&str> = retained.iter().filter_map(Value::as_str).collect();
    let is_retained = |key: &str| retained.contains(key);
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
    fn every_built_in_list_merges_by_its_own_key() {
        for (kind, object, patch, merged) in [
            (
                "io.k8s.api.core.v1.Pod",
                json!({"spec": {"containers": [{"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/a"}]}]}}),
                json!({"spec": {"containers": [{"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/b"}]}]}}),
                json!({"spec": {"containers": [{"name": "a", "volumeMounts": [
                    {"name": "v", "mountPath": "/b"},
                    {"name": "v", "mountPath": "/a"},
                ]}]}}),
            ),
            (
                "io.k8s.api.core.v1.Pod",
                json!({"spec": {"tolerations": [{"key": "a"}], "hostAliases": [{"ip": "1", "hostnames": ["x"]}]}}),
                json!({"spec": {"tolerations": [{"key": "b"}], "hostAliases": [{"ip": "1", "hostnames": ["y"]}]}}),
                json!({"spec": {"tolerations": [{"key": "b"}], "hostAliases": [{"ip": "1", "hostnames": ["y"]}]}}),
            ),
            (
                "io.k8s.api.core.v1.Pod",
                json!({"spec": {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1}]}}),
                json!({"spec": {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 2}]}}),
                json!({"spec": {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 2}]}}),
            ),
            (
                "io.k8s.api.core.v1.Service",
                json!({"spec": {"ports": [{"port": 80, "name": "a"}]}}),
                json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}, {"port": 81}]}}),
                json!({"spec": {"ports": [{"port": 80, "name": "a", "nodePort": 30000}, {"port": 81}]}}),
            ),
            (
                "io.k8s.api.core.v1.Node",
                json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Disk", "status": "False"}]}}),
                json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
                json!({"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Disk", "status": "False"}]}}),
            ),
            (
                "io.k8s.api.core.v1.ServiceAccount",
                json!({"metadata": {"finalizers": ["a"], "ownerReferences": [{"uid": "1", "name": "x"}]}}),
                json!({"metadata": {"finalizers": ["b"], "ownerReferences": [{"uid": "1", "$patch": "delete"}]}}),
                json!({"metadata": {"finalizers": ["b", "a"], "ownerReferences": []}}),
            ),
            (
                "io.k8s.api.apps.v1.Deployment",
                json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
                json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
                json!({"spec": {"strategy": {"type": "Recreate"}}}),
            ),
        ] {
            let schema = crate::schema::built_in().at(crate::schema::type_node(kind).unwrap());
            let mut object = object;
            apply_strategic_patch(&mut object, patch, schema).unwrap();
            assert_eq!(object, merged, "{kind}");
        }
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
