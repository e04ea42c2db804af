//! Values as upstream's messages print them (Go's `%v` of decoded JSON). For messages only.

use std::fmt::{self, Write as _};

use serde_json::Value;

/// `map[a:1 b:[x y]]`.
pub(super) fn plain(value: &Value) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_plain(&mut out, value);
    out
}

fn write_plain(out: &mut String, value: &Value) -> fmt::Result {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                write_plain(out, item)?;
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push_str("map[");
            for (i, (key, value)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                write!(out, "{key}:")?;
                write_plain(out, value)?;
            }
            out.push(']');
        }
        other => write!(out, "{other}")?,
    }
    Ok(())
}

/// Go's name for the type of a decoded value.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Go's `%#v`: `"text"`, `8080`, `map[string]interface {}{"a":1}`.
pub(super) fn source(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(source).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(k, v)| format!("{k:?}:{}", source(v))).collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}
