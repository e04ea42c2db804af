//! Lists and maps that merge: what they are made of.

use serde_json::{Value, json};

use super::Faults;
use super::schema::{flag, is_set, list, schema_at, text};

pub(super) fn validate(schema: &Value, path: &str, faults: &mut Faults<'_>) {
    let at = |field: &str| format!("{path}.{field}");
    let kind = text(schema, "type");
    let wrong_type = |faults: &mut Faults<'_>, detail: &str| match kind {
        "" => faults.required(&at("type"), detail),
        kind => faults.invalid(&at("type"), &kind.into(), detail),
    };
    let map_type = text(schema, "x-kubernetes-map-type");
    if !map_type.is_empty() {
        if kind != "object" {
            wrong_type(faults, "must be object if x-kubernetes-map-type is specified");
        }
        let all = ["atomic", "granular"];
        if !all.contains(&map_type) {
            faults.not_supported(&at("x-kubernetes-map-type"), &map_type.into(), &all);
        }
    }
    let list_type = text(schema, "x-kubernetes-list-type");
    let items = schema_at(schema, "items");
    if !list_type.is_empty() {
        if kind != "array" {
            wrong_type(faults, "must be array if x-kubernetes-list-type is specified");
        } else if let ("set", Some(items)) = (list_type, items) {
            atomic_items(items, path, faults);
        }
        let all = ["atomic", "set", "map"];
        if !all.contains(&list_type) {
            faults.not_supported(&at("x-kubernetes-list-type"), &list_type.into(), &all);
        }
    }
    let keys: Vec<&str> = list(schema, "x-kubernetes-list-map-keys")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if !keys.is_empty() && list_type != "map" {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            "" => faults.required(&at("x-kubernetes-list-type"), detail),
            other => faults.invalid(&at("x-kubernetes-list-type"), &other.into(), detail),
        }
    }
    if list_type == "map" {
        if keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            faults.required(&at("x-kubernetes-list-map-keys"), detail);
        }
        match schema.get("items").filter(|v| !v.is_null()) {
            None => faults.required(&at("items"), "must have a schema if x-kubernetes-list-type is map"),
            Some(several) if items.is_none() => {
                let detail = "must only have a single schema if x-kubernetes-list-type is map";
                faults.invalid(&at("items"), several, detail);
            }
            Some(_) => {}
        }
        if let Some(items) = items {
            keyed_items(&keys, items, path, faults);
        }
    }
    if let ("set" | "map", Some(items)) = (list_type, items) {
        if flag(items, "nullable") {
            let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
            faults.forbidden(&at("items.nullable"), detail);
        }
        if list_type == "map" {
            for key in &keys {
                key_is_there(key, items, path, faults);
            }
        }
    }
}

/// The elements of a set are compared as a whole.
fn atomic_items(items: &Value, path: &str, faults: &mut Faults<'_>) {
    let list_type = text(items, "x-kubernetes-list-type");
    let field = match text(items, "type") {
        "array" if !list_type.is_empty() && list_type != "atomic" => "x-kubernetes-list-type",
        "object" if text(items, "x-kubernetes-map-type") != "atomic" => "x-kubernetes-map-type",
        _ => return,
    };
    // Upstream shows the list's type for either.
    let shown = items.get("x-kubernetes-list-type").unwrap_or(&Value::Null);
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    faults.invalid(&format!("{path}.items.{field}"), shown, detail);
}

/// What the elements of a keyed list are found by are scalars of theirs.
fn keyed_items(keys: &[&str], items: &Value, path: &str, faults: &mut Faults<'_>) {
    let kind = text(items, "type");
    if kind != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return faults.invalid(&format!("{path}.items.type"), &kind.into(), detail);
    }
    let keys_path = format!("{path}.x-kubernetes-list-map-keys");
    for (i, key) in keys.iter().enumerate() {
        match items.get("properties").and_then(|p| p.get(key)) {
            Some(property) if matches!(text(property, "type"), "array" | "object") => {
                let at = format!("{path}.items.properties[{key}].type");
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                faults.invalid(&at, &kind.into(), detail);
            }
            Some(_) => {}
            None => faults.invalid(&keys_path, &json!(keys), "entries must all be names of item properties"),
        }
        if keys.iter().take(i).any(|earlier| earlier == key) {
            faults.invalid(&keys_path, &json!(keys), "must not contain duplicate entries");
        }
    }
}

/// No element is without its key.
fn key_is_there(key: &str, items: &Value, path: &str, faults: &mut Faults<'_>) {
    let Some(property) = items.get("properties").and_then(|p| p.get(key)) else {
        return;
    };
    let at = |field: &str| format!("{path}.items.properties[{key}].{field}");
    let said = "this property is in x-kubernetes-list-map-keys, so it";
    let is_required = list(items, "required").iter().any(|r| r.as_str() == Some(key));
    if !is_required && !is_set(property, "default") {
        faults.required(
            &at("default"),
            format!("{said} must have a default or be a required property"),
        );
    }
    if flag(property, "nullable") {
        faults.forbidden(&at("nullable"), format!("{said} cannot be nullable"));
    }
}
