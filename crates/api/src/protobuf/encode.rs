//! JSON values to messages. The value has been decoded against the same schema, so that every field has its type; a
//! field that has not is not written.
//!
//! Only what is there is written, in the order of the field numbers. Upstream also writes the zeros of fields that are
//! no pointers; to its decoder, and to ours, an absent one is the same.

use serde_json::{Map, Value};

use super::wire::Writer;
use crate::duration;
use crate::schema::{ObjectShape, Property, Schema, SchemaOr, Shape, StringFormat, scalar};

/// The message of a value: an object's, without an envelope.
pub fn encode(value: &Value, schema: Schema<'_>) -> Vec<u8> {
    let mut out = Writer::default();
    if let (Value::Object(map), Some(shape)) = (value, schema.object()) {
        object(&mut out, map, shape, schema);
    }
    out.finish()
}

/// The fields of an object that are this message's own, and its inlined parts.
pub(super) fn object(out: &mut Writer, map: &Map<String, Value>, shape: &ObjectShape, schema: Schema<'_>) {
    enum Part<'a> {
        Field(&'a Property, &'a Value),
        Inlined(Schema<'a>, &'a ObjectShape),
    }
    let mut parts: Vec<(u16, Part<'_>)> = Vec::with_capacity(map.len());
    for (key, value) in map {
        if let Some(property) = schema.property_row(key)
            && property.field.number > 0
            && !property.field.inherited
        {
            parts.push((property.field.number, Part::Field(property, value)));
        }
    }
    for part in &shape.inlined {
        let inner = schema.other(part.node);
        if let Some(inner_shape) = inner.object()
            && map.keys().any(|key| inner.property_row(key).is_some())
        {
            parts.push((part.number, Part::Inlined(inner, inner_shape)));
        }
    }
    parts.sort_by_key(|(number, _)| *number);
    for (number, part) in parts {
        match part {
            Part::Field(property, value) => field(out, number.into(), value, schema.other(property.node)),
            Part::Inlined(inner, shape) => out.nested(number.into(), |out| object(out, map, shape, inner)),
        }
    }
}

/// A field, once for each element of a list or map.
fn field(out: &mut Writer, number: u32, value: &Value, schema: Schema<'_>) {
    match (schema.shape(), value) {
        (Shape::List { message: true, .. }, Value::Array(_)) => single(out, number, value, schema),
        (Shape::List { .. }, Value::Array(items)) => {
            let Some(of) = schema.items() else { return };
            for item in items {
                single(out, number, item, of);
            }
        }
        (Shape::Map { .. }, Value::Object(map)) => {
            let Some(of) = schema.values() else { return };
            for (key, item) in map {
                out.nested(number, |out| {
                    out.bytes(1, key.as_bytes());
                    single(out, 2, item, of);
                });
            }
        }
        _ => single(out, number, value, schema),
    }
}

/// Signed numbers are sign-extended to 64 bits, negative 32-bit ones too.
fn integer(value: &Value) -> Option<u64> {
    value.as_i64().map(|n| n as u64)
}

fn single(out: &mut Writer, number: u32, value: &Value, schema: Schema<'_>) {
    if value.is_null() && !matches!(schema.shape(), Shape::Any) {
        return;
    }
    match schema.shape() {
        Shape::Any => {
            let raw = serde_json::to_vec(value).unwrap_or_default();
            out.nested(number, |out| out.bytes(1, &raw));
        }
        Shape::Boolean => {
            if let Some(flag) = value.as_bool() {
                out.varint_field(number, flag.into());
            }
        }
        Shape::Integer { .. } => {
            if let Some(n) = integer(value) {
                out.varint_field(number, n);
            }
        }
        Shape::Number => {
            if let Some(n) = value.as_f64() {
                out.double_field(number, n);
            }
        }
        Shape::String(format) => {
            if let Some(text) = value.as_str() {
                string(out, number, text, *format);
            }
        }
        Shape::Quantity => {
            if let Some(text) = value.as_str() {
                out.nested(number, |out| out.bytes(1, text.as_bytes()));
            }
        }
        Shape::IntOrString => out.nested(number, |out| match value {
            Value::String(text) => {
                out.varint_field(1, 1);
                out.varint_field(2, 0);
                out.bytes(3, text.as_bytes());
            }
            _ => {
                out.varint_field(1, 0);
                out.varint_field(2, integer(value).unwrap_or(0));
                out.bytes(3, b"");
            }
        }),
        Shape::SchemaOr { schema: node, or } => {
            out.nested(number, |out| schema_or(out, value, schema.other(*node), *or));
        }
        // Only lists that are messages come here.
        Shape::List { .. } => out.nested(number, |out| {
            for item in value.as_array().into_iter().flatten() {
                if let Some(of) = schema.items() {
                    single(out, 1, item, of);
                }
            }
        }),
        Shape::Map { .. } => {}
        Shape::Object(shape) => {
            if let Some(map) = value.as_object() {
                out.nested(number, |out| object(out, map, shape, schema));
            }
        }
    }
}

fn string(out: &mut Writer, number: u32, text: &str, format: StringFormat) {
    match format {
        StringFormat::Plain => out.bytes(number, text.as_bytes()),
        StringFormat::Bytes => {
            if let Ok(bytes) = scalar::decode_bytes(text) {
                out.bytes(number, &bytes);
            }
        }
        StringFormat::Time | StringFormat::MicroTime => {
            let Ok(time) = scalar::parse_time(text) else { return };
            // Seconds only, so that JSON and protobuf say the same.
            let nanoseconds = match format {
                StringFormat::MicroTime => time.subsec_nanosecond() / 1000 * 1000,
                _ => 0,
            };
            // Before 1970 the fraction of a jiff timestamp counts down.
            let seconds = time.as_second() - i64::from(nanoseconds < 0);
            let nanoseconds = if nanoseconds < 0 {
                nanoseconds + 1_000_000_000
            } else {
                nanoseconds
            };
            out.nested(number, |out| {
                out.varint_field(1, seconds as u64);
                out.varint_field(2, nanoseconds as u64);
            });
        }
        StringFormat::Duration => {
            if let Some(nanoseconds) = duration::parse(text) {
                out.nested(number, |out| out.varint_field(1, nanoseconds as u64));
            }
        }
    }
}

fn schema_or(out: &mut Writer, value: &Value, schema: Schema<'_>, or: SchemaOr) {
    match (or, value) {
        (SchemaOr::Bool, Value::Bool(flag)) => out.varint_field(1, (*flag).into()),
        (SchemaOr::Bool, _) => {
            out.varint_field(1, 1);
            single(out, 2, value, schema);
        }
        (SchemaOr::Array, Value::Array(items)) => items.iter().for_each(|item| single(out, 2, item, schema)),
        (SchemaOr::Strings, Value::Array(items)) => {
            for item in items.iter().filter_map(Value::as_str) {
                out.bytes(2, item.as_bytes());
            }
        }
        (SchemaOr::Array | SchemaOr::Strings, _) => single(out, 1, value, schema),
    }
}
