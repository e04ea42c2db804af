//! Which schemas are structural: every field is declared outside of what only validates, with one type.

use serde_json::{Map, Value, json};

use super::Faults;
use crate::field::{ErrorList, FieldError};
use crate::schema::custom::{MOST_DEPTH, Validator, from_schema};
use crate::schema::decode::{Mode, decode};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// The whole schema of a version.
pub(super) fn validate(root: &Value, path: &str, faults: &mut Faults<'_>) {
    spine(root, Level::Root, path, 0, faults);
}

fn text<'s>(schema: &'s Value, key: &str) -> &'s str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn list<'s>(schema: &'s Value, key: &str) -> &'s [Value] {
    schema.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn map<'s>(schema: &'s Value, key: &str) -> impl Iterator<Item = (&'s String, &'s Value)> {
    schema.get(key).and_then(Value::as_object).into_iter().flatten()
}

fn is_set(schema: &Value, key: &str) -> bool {
    schema.get(key).is_some_and(|v| !v.is_null())
}

/// A schema that declares what is there.
fn spine(schema: &Value, level: Level, path: &str, depth: usize, faults: &mut Faults<'_>) {
    if depth > MOST_DEPTH {
        faults.forbidden(path, format!("must not be nested deeper than {MOST_DEPTH} levels"));
        return;
    }
    let at = |field: &str| format!("{path}.{field}");
    plain(schema, path, faults);
    extensions(schema, path, faults);
    list_types(schema, path, faults);

    let kind = text(schema, "type");
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let preserves = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let either = flag(schema, "x-kubernetes-int-or-string");
    if kind == "array" && !schema.get("items").is_some_and(Value::is_object) {
        faults.required(&at("items"), "must be specified");
    }
    if embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "" => faults.required(&at("type"), detail),
            kind => faults.invalid(&at("type"), &kind.into(), detail),
        }
    } else if kind.is_empty() && !either && !preserves {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        faults.required(&at("type"), detail);
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        faults.invalid(&at("type"), &kind.into(), "must be object at the root");
    }
    if is_set(schema, "additionalProperties") {
        if level == Level::Root {
            faults.forbidden(&at("additionalProperties"), "must not be used at the root");
        }
        if embedded {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            faults.forbidden(&at("additionalProperties"), detail);
        }
    }
    if embedded && !preserves && map(schema, "properties").next().is_none() {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        faults.required(&at("properties"), detail);
    }
    metadata(schema, level, embedded, path, faults);
    default(schema, level, path, faults);

    if let Some(items) = schema.get("items").filter(|v| v.is_object()) {
        spine(items, Level::Item, &at("items"), depth + 1, faults);
    }
    for (name, below) in map(schema, "properties") {
        spine(
            below,
            Level::Field,
            &at(&format!("properties[{name}]")),
            depth + 1,
            faults,
        );
    }
    if let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object()) {
        spine(values, Level::Field, &at("additionalProperties"), depth + 1, faults);
    }
    let pattern = json!([{"type": "integer"}, {"type": "string"}]);
    let first = list(schema, "allOf").first();
    for keyword in ["anyOf", "allOf", "oneOf"] {
        if keyword == "anyOf" && schema.get("anyOf") == Some(&pattern) {
            continue;
        }
        for (i, below) in list(schema, keyword).iter().enumerate() {
            let skip = keyword == "allOf" && i == 0 && first.and_then(|f| f.get("anyOf")) == Some(&pattern);
            nested(
                below,
                schema,
                path,
                &at(&format!("{keyword}[{i}]")),
                skip,
                depth + 1,
                faults,
            );
        }
    }
    if let Some(not) = schema.get("not").filter(|v| v.is_object()) {
        nested(not, schema, path, &at("not"), false, depth + 1, faults);
    }
}

/// A schema that only validates: under `allOf`, `anyOf`, `oneOf`, `not`. It names nothing that the spine does not.
fn nested(
    schema: &Value,
    spine: &Value,
    spine_path: &str,
    path: &str,
    skip_any_of: bool,
    depth: usize,
    faults: &mut Faults<'_>,
) {
    if depth > MOST_DEPTH {
        faults.forbidden(path, format!("must not be nested deeper than {MOST_DEPTH} levels"));
        return;
    }
    let at = |field: &str| format!("{path}.{field}");
    plain(schema, path, faults);
    for (field, detail) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("externalDocs", "must be undefined to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        let said = match schema.get(field) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(s)) => !s.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        };
        if said {
            faults.forbidden(&at(field), detail);
        }
    }
    if map(schema, "properties").any(|(name, _)| name == "metadata") {
        faults.forbidden(&at("properties[metadata]"), "must not be specified in a nested context");
    }
    if let Some(items) = schema.get("items").filter(|v| v.is_object()) {
        let below = at("items");
        let here = format!("{spine_path}.items");
        match spine.get("items").filter(|v| v.is_object()) {
            Some(found) => nested(items, found, &here, &below, false, depth + 1, faults),
            None => faults.required(&here, format!("because it is defined in {below}")),
        }
    }
    for (name, property) in map(schema, "properties") {
        let below = at(&format!("properties[{name}]"));
        let here = format!("{spine_path}.properties[{name}]");
        match spine.get("properties").and_then(|p| p.get(name)) {
            Some(found) => nested(property, found, &here, &below, false, depth + 1, faults),
            None => faults.required(&here, format!("because it is defined in {below}")),
        }
    }
    for keyword in ["anyOf", "allOf", "oneOf"] {
        if keyword == "anyOf" && skip_any_of {
            continue;
        }
        for (i, below) in list(schema, keyword).iter().enumerate() {
            let below_path = at(&format!("{keyword}[{i}]"));
            nested(below, spine, spine_path, &below_path, false, depth + 1, faults);
        }
    }
    if let Some(not) = schema.get("not").filter(|v| v.is_object()) {
        nested(not, spine, spine_path, &at("not"), false, depth + 1, faults);
    }
}

/// What goes for every schema.
fn plain(schema: &Value, path: &str, faults: &mut Faults<'_>) {
    let at = |field: &str| format!("{path}.{field}");
    for (field, name) in [
        ("id", "id"),
        ("additionalItems", "additionalItems"),
        ("patternProperties", "patternProperties"),
        ("definitions", "definitions"),
        ("dependencies", "dependencies"),
        ("$ref", "$ref"),
    ] {
        if is_set(schema, field) {
            faults.forbidden(&at(field), format!("{name} is not supported"));
        }
    }
    match text(schema, "type") {
        "" => {}
        "null" => faults.forbidden(
            &at("type"),
            "type cannot be set to null, use nullable as an alternative",
        ),
        kind if !TYPES.contains(&kind) => faults.not_supported(&at("type"), &kind.into(), &TYPES),
        _ => {}
    }
    if schema.get("items").is_some_and(Value::is_array) {
        faults.forbidden(&at("items"), "items must be a schema object and not an array");
    }
    if flag(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        faults.forbidden(&at("uniqueItems"), detail);
    }
    match schema.get("additionalProperties") {
        Some(Value::Bool(false)) => {
            let detail = "additionalProperties cannot be set to false";
            faults.forbidden(&at("additionalProperties"), detail);
        }
        Some(Value::Object(_)) if map(schema, "properties").next().is_some() => {
            let detail = "additionalProperties and properties are mutual exclusive";
            faults.forbidden(&at("additionalProperties"), detail);
        }
        _ => {}
    }
    let pattern = text(schema, "pattern");
    if !pattern.is_empty()
        && let Err(error) = regex::Regex::new(pattern)
    {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim();
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        faults.invalid(&at("pattern"), &pattern.into(), detail);
    }
}

fn extensions(schema: &Value, path: &str, faults: &mut Faults<'_>) {
    if !flag(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for field in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if flag(schema, field) {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            faults.invalid(&format!("{path}.{field}"), &true.into(), detail);
        }
    }
    if is_set(schema, "type") {
        let detail = "must be empty if x-kubernetes-int-or-string is true";
        faults.invalid(&format!("{path}.type"), &text(schema, "type").into(), detail);
    }
}

/// Lists and maps that merge: what they are made of.
fn list_types(schema: &Value, path: &str, faults: &mut Faults<'_>) {
    let at = |field: &str| format!("{path}.{field}");
    let kind = text(schema, "type");
    let list_type = text(schema, "x-kubernetes-list-type");
    let wrong_type = |faults: &mut Faults<'_>, detail: &str| match kind {
        "" => faults.required(&at("type"), detail),
        kind => faults.invalid(&at("type"), &kind.into(), detail),
    };
    if !list_type.is_empty() {
        if kind != "array" {
            wrong_type(faults, "must be array if x-kubernetes-list-type is specified");
        }
        let all = ["atomic", "map", "set"];
        if !all.contains(&list_type) {
            faults.not_supported(&at("x-kubernetes-list-type"), &list_type.into(), &all);
        }
    }
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
    let items = schema.get("items").filter(|v| v.is_object());
    match (list_type, items) {
        ("map", items) => {
            if keys.is_empty() {
                let detail = "must not be empty if x-kubernetes-list-type is map";
                faults.required(&at("x-kubernetes-list-map-keys"), detail);
            }
            match items {
                Some(items) => keyed_items(&keys, items, path, faults),
                None => faults.required(&at("items"), "must have a schema if x-kubernetes-list-type is map"),
            }
        }
        ("set", Some(items)) => {
            let below = at("items");
            if flag(items, "nullable") {
                let detail = "cannot be nullable when x-kubernetes-list-type is set";
                faults.forbidden(&format!("{below}.nullable"), detail);
            }
            let (field, wanted) = match text(items, "type") {
                "array" => ("x-kubernetes-list-type", "atomic"),
                "object" => ("x-kubernetes-map-type", "atomic"),
                _ => return,
            };
            let found = text(items, field);
            let is_list = field == "x-kubernetes-list-type";
            if found != wanted && !(is_list && found.is_empty()) {
                let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
                match found {
                    "" => faults.required(&format!("{below}.{field}"), detail),
                    found => faults.invalid(&format!("{below}.{field}"), &found.into(), detail),
                }
            }
        }
        _ => {}
    }
}

fn keyed_items(keys: &[&str], items: &Value, path: &str, faults: &mut Faults<'_>) {
    let below = format!("{path}.items");
    if text(items, "type") != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        faults.invalid(&format!("{below}.type"), &text(items, "type").into(), detail);
    }
    let mut seen: Vec<&str> = Vec::new();
    for key in keys {
        let keys_path = format!("{path}.x-kubernetes-list-map-keys");
        if seen.contains(key) {
            faults.invalid(&keys_path, &json!(keys), "must not contain duplicate entries");
        }
        seen.push(key);
        let Some(property) = items.get("properties").and_then(|p| p.get(key)) else {
            faults.invalid(
                &keys_path,
                &(*key).into(),
                "entries must all be names of item properties",
            );
            continue;
        };
        let at = format!("{below}.properties[{key}]");
        let kind = text(property, "type");
        if matches!(kind, "array" | "object") {
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            faults.invalid(&format!("{at}.type"), &kind.into(), detail);
        }
        if flag(property, "nullable") {
            let detail = "cannot be nullable when it is one of the x-kubernetes-list-map-keys";
            faults.forbidden(&format!("{at}.nullable"), detail);
        }
        let required = list(items, "required").iter().any(|r| r.as_str() == Some(key));
        if !required && !is_set(property, "default") {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            faults.required(&format!("{at}.default"), detail);
        }
    }
}

/// An object's own fields are not a schema's to declare anew.
fn metadata(schema: &Value, level: Level, embedded: bool, path: &str, faults: &mut Faults<'_>) {
    let checked = level == Level::Root || embedded;
    if !checked {
        return;
    }
    for field in ["apiVersion", "kind"] {
        let found = schema.get("properties").and_then(|p| p.get(field));
        if let Some(found) = found.filter(|f| text(f, "type") != "string") {
            let at = format!("{path}.properties[{field}].type");
            faults.invalid(&at, &text(found, "type").into(), "must be string");
        }
    }
    let Some(found) = schema.get("properties").and_then(|p| p.get("metadata")) else {
        return;
    };
    let at = format!("{path}.properties[metadata]");
    if text(found, "type") != "object" {
        faults.invalid(&format!("{at}.type"), &text(found, "type").into(), "must be object");
    }
    if level == Level::Root {
        let plain = |(name, value): (&String, &Value)| match name.as_str() {
            "type" => true,
            "properties" => map(found, "properties").all(|(n, _)| matches!(n.as_str(), "name" | "generateName")),
            _ => value.is_null(),
        };
        if !found
            .as_object()
            .is_some_and(|m: &Map<String, Value>| m.iter().all(plain))
        {
            let detail =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            faults.forbidden(&at, detail);
        }
    }
}

/// A default is a value of its own schema: nothing in it is pruned or refused.
fn default(schema: &Value, level: Level, path: &str, faults: &mut Faults<'_>) {
    let Some(default) = schema.get("default").filter(|d| !d.is_null()) else {
        return;
    };
    let at = format!("{path}.default");
    if level == Level::Root {
        faults.forbidden(&at, "must not be set");
        return;
    }
    let wrapped = json!({"type": "object", "properties": {"default": schema}});
    let (set, root) = from_schema(Some(&wrapped));
    let mut value = json!({"default": default});
    match decode(&mut value, set.at(root), Mode::Whole) {
        Err(errors) => {
            for error in errors {
                let error = error.field_error();
                let inner = error.path.strip_prefix("default").unwrap_or_default();
                let detail = error.detail.replacen(&error.path, &format!("{at}{inner}"), 1);
                faults.errors.push(FieldError {
                    path: format!("{at}{inner}"),
                    detail,
                    ..error
                });
            }
            return;
        }
        Ok(decoded) if !decoded.unknown.is_empty() => faults.invalid(&at, default, "must not have unknown fields"),
        Ok(_) => {}
    }
    let mut found = ErrorList::new();
    Validator::of_default(schema).validate_at(default, None, &at, &mut found);
    for error in found.into_vec() {
        faults.errors.push(error);
    }
}
