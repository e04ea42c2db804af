//! OpenAPI v2 in the protobuf form of gnostic, which Go clients ask for. Turns the JSON document into it, field by field.
//!
//! Extensions and defaults are YAML texts inside; JSON is YAML.

use serde_json::{Map, Value};

use crate::protobuf::wire::Writer;

/// The document as protobuf; nothing for what is no document.
pub(super) fn encode(json: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    let document: Map<String, Value> = serde_json::from_slice(json).unwrap_or_default();
    text(&mut out, 1, document.get("swagger"));
    if let Some(Value::Object(info)) = document.get("info") {
        out.nested(2, |out| {
            text(out, 1, info.get("title"));
            text(out, 2, info.get("version"));
        });
    }
    out.nested(8, |out| named(out, 2, document.get("paths"), path_item));
    out.nested(9, |out| named(out, 1, document.get("definitions"), schema));
    out.finish()
}

fn text(out: &mut Writer, number: u32, value: Option<&Value>) {
    if let Some(Value::String(text)) = value {
        out.bytes(number, text.as_bytes());
    }
}

fn flag(out: &mut Writer, number: u32, value: Option<&Value>) {
    if let Some(Value::Bool(true)) = value {
        out.varint_field(number, 1);
    }
}

fn int(out: &mut Writer, number: u32, value: Option<&Value>) {
    if let Some(n) = value.and_then(Value::as_i64) {
        out.varint_field(number, n as u64);
    }
}

fn double(out: &mut Writer, number: u32, value: Option<&Value>) {
    if let Some(n) = value.and_then(Value::as_f64) {
        out.double_field(number, n);
    }
}

fn texts(out: &mut Writer, number: u32, value: Option<&Value>) {
    for item in value.and_then(Value::as_array).into_iter().flatten() {
        text(out, number, Some(item));
    }
}

/// `Any`: the value as YAML.
fn any(out: &mut Writer, number: u32, value: Option<&Value>) {
    if let Some(value) = value {
        out.nested(number, |out| out.bytes(2, value.to_string().as_bytes()));
    }
}

/// The entries of a map as messages of name and value.
fn named(out: &mut Writer, number: u32, map: Option<&Value>, write: fn(&mut Writer, &Map<String, Value>)) {
    for (name, value) in map.and_then(Value::as_object).into_iter().flatten() {
        let Value::Object(value) = value else { continue };
        out.nested(number, |out| {
            out.bytes(1, name.as_bytes());
            out.nested(2, |out| write(out, value));
        });
    }
}

fn extensions(out: &mut Writer, number: u32, map: &Map<String, Value>) {
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        out.nested(number, |out| {
            out.bytes(1, name.as_bytes());
            any(out, 2, Some(value));
        });
    }
}

fn sub_schema(out: &mut Writer, number: u32, value: &Value) {
    if let Value::Object(map) = value {
        out.nested(number, |out| schema(out, map));
    }
}

fn schema(out: &mut Writer, map: &Map<String, Value>) {
    let get = |key: &str| map.get(key);
    text(out, 1, get("$ref"));
    text(out, 2, get("format"));
    text(out, 3, get("title"));
    text(out, 4, get("description"));
    any(out, 5, get("default"));
    double(out, 6, get("multipleOf"));
    double(out, 7, get("maximum"));
    flag(out, 8, get("exclusiveMaximum"));
    double(out, 9, get("minimum"));
    flag(out, 10, get("exclusiveMinimum"));
    int(out, 11, get("maxLength"));
    int(out, 12, get("minLength"));
    text(out, 13, get("pattern"));
    int(out, 14, get("maxItems"));
    int(out, 15, get("minItems"));
    flag(out, 16, get("uniqueItems"));
    int(out, 17, get("maxProperties"));
    int(out, 18, get("minProperties"));
    texts(out, 19, get("required"));
    for value in get("enum").and_then(Value::as_array).into_iter().flatten() {
        any(out, 20, Some(value));
    }
    match get("additionalProperties") {
        Some(Value::Bool(allowed)) => out.nested(21, |out| out.varint_field(2, (*allowed).into())),
        Some(value) => out.nested(21, |out| sub_schema(out, 1, value)),
        None => {}
    }
    if let Some(Value::String(kind)) = get("type") {
        out.nested(22, |out| out.bytes(1, kind.as_bytes()));
    }
    if let Some(items) = get("items") {
        out.nested(23, |out| sub_schema(out, 1, items));
    }
    for value in get("allOf").and_then(Value::as_array).into_iter().flatten() {
        sub_schema(out, 24, value);
    }
    if get("properties").is_some() {
        out.nested(25, |out| named(out, 1, get("properties"), schema));
    }
    any(out, 30, get("example"));
    extensions(out, 31, map);
}

fn path_item(out: &mut Writer, map: &Map<String, Value>) {
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(Value::Object(found)) = map.get(method) {
            out.nested(number, |out| operation(out, found));
        }
    }
    parameters(out, 9, map.get("parameters"));
    extensions(out, 10, map);
}

fn operation(out: &mut Writer, map: &Map<String, Value>) {
    texts(out, 1, map.get("tags"));
    text(out, 3, map.get("description"));
    text(out, 5, map.get("operationId"));
    texts(out, 6, map.get("produces"));
    texts(out, 7, map.get("consumes"));
    parameters(out, 8, map.get("parameters"));
    out.nested(9, |out| named(out, 1, map.get("responses"), response));
    extensions(out, 13, map);
}

fn response(out: &mut Writer, map: &Map<String, Value>) {
    out.nested(1, |out| {
        text(out, 1, map.get("description"));
        if let Some(found) = map.get("schema") {
            out.nested(2, |out| sub_schema(out, 1, found));
        }
    });
}

fn parameters(out: &mut Writer, number: u32, list: Option<&Value>) {
    for parameter in list.and_then(Value::as_array).into_iter().flatten() {
        let Value::Object(map) = parameter else { continue };
        // ParametersItem, Parameter, and which of them it is.
        out.nested(number, |out| {
            out.nested(1, |out| match map.get("in").and_then(Value::as_str) {
                Some("body") => out.nested(1, |out| {
                    text(out, 2, map.get("name"));
                    text(out, 3, map.get("in"));
                    flag(out, 4, map.get("required"));
                    if let Some(found) = map.get("schema") {
                        sub_schema(out, 5, found);
                    }
                }),
                Some("path") => out.nested(2, |out| {
                    out.nested(4, |out| {
                        flag(out, 1, map.get("required"));
                        text(out, 2, map.get("in"));
                        text(out, 3, map.get("description"));
                        text(out, 4, map.get("name"));
                        text(out, 5, map.get("type"));
                        flag(out, 19, map.get("uniqueItems"));
                    });
                }),
                _ => out.nested(2, |out| {
                    out.nested(3, |out| {
                        flag(out, 1, map.get("required"));
                        text(out, 2, map.get("in"));
                        text(out, 3, map.get("description"));
                        text(out, 4, map.get("name"));
                        text(out, 6, map.get("type"));
                        flag(out, 20, map.get("uniqueItems"));
                    });
                }),
            });
        });
    }
}
