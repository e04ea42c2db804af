//! Which schemas are structural: every field is declared outside of what only validates, with one type.

use serde_json::{Map, Value, json};

use super::Faults;
use super::schema::{flag, is_set, list, map, text};
use crate::schema::custom::MOST_DEPTH;

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

/// A schema that declares what is there.
fn spine(schema: &Value, level: Level, path: &str, depth: usize, faults: &mut Faults<'_>) {
    if depth > MOST_DEPTH {
        return;
    }
    let at = |field: &str| format!("{path}.{field}");
    extensions(schema, path, faults);
    pattern(schema, path, faults);

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
    let either_way = json!([{"type": "integer"}, {"type": "string"}]);
    let first = list(schema, "allOf").first();
    for keyword in ["anyOf", "allOf", "oneOf"] {
        if keyword == "anyOf" && schema.get("anyOf") == Some(&either_way) {
            continue;
        }
        for (i, below) in list(schema, keyword).iter().enumerate() {
            let skip = keyword == "allOf" && i == 0 && first.and_then(|f| f.get("anyOf")) == Some(&either_way);
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
        return;
    }
    let at = |field: &str| format!("{path}.{field}");
    pattern(schema, path, faults);
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

/// A pattern is a regular expression.
fn pattern(schema: &Value, path: &str, faults: &mut Faults<'_>) {
    let pattern = text(schema, "pattern");
    if let Err(error) = regex::Regex::new(pattern) {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim();
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        faults.invalid(&format!("{path}.pattern"), &pattern.into(), detail);
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
            "type" | "default" => true,
            "properties" => map(found, "properties").all(|(n, _)| matches!(n.as_str(), "name" | "generateName")),
            _ => matches!(value, Value::Null | Value::Bool(false)) || value == "",
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
