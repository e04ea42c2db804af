//! Messages to JSON values, in the form [`schema::decode`](crate::schema::decode) brings them into. Every malformed byte is
//! an error; unknown field numbers are skipped, as upstream skips them.

use serde_json::{Map, Number, Value};

use super::wire::{BYTES, RawField, Reader};
use super::{MAGIC, ProtobufError, parse_raw, type_of, unwrap};
use crate::duration;
use crate::object::Object;
use crate::schema::decode::{fill, is_set};
use crate::schema::{ObjectShape, Schema, SchemaOr, Shape, StringFormat, built_in, scalar};

const MOST_DEPTH: usize = 100;

/// The value of an object's message, without an envelope.
pub fn decode(bytes: &[u8], schema: Schema<'_>) -> Result<Value, ProtobufError> {
    let mut map = Map::new();
    if let Some(shape) = schema.object() {
        object(bytes, shape, schema, &mut map, 0)?;
    }
    Ok(Value::Object(map))
}

/// The object in an envelope, with apiVersion and kind.
pub(super) fn enveloped(bytes: &[u8], depth: usize) -> Result<Object, ProtobufError> {
    let envelope = unwrap(bytes)?;
    if !envelope.content_encoding.is_empty() {
        return Err(ProtobufError::UnknownContent(envelope.content_encoding));
    }
    let mut map = Map::new();
    match envelope.content_type.as_str() {
        "" | super::CONTENT_TYPE => {
            let unknown = || ProtobufError::UnknownKind {
                api_version: envelope.api_version.clone(),
                kind: envelope.kind.clone(),
            };
            let schema = built_in().at(type_of(&envelope.api_version, &envelope.kind).ok_or_else(unknown)?);
            let shape = schema.object().ok_or_else(unknown)?;
            object(envelope.raw, shape, schema, &mut map, depth)?;
        }
        "application/json" => match parse_raw(envelope.raw, "raw")? {
            Value::Object(json) => map = json,
            _ => return Err(malformed("raw", "not an object")),
        },
        other => return Err(ProtobufError::UnknownContent(other.to_owned())),
    }
    map.insert("apiVersion".into(), envelope.api_version.into());
    map.insert("kind".into(), envelope.kind.into());
    Ok(Object(map))
}

fn malformed(field: &str, why: &str) -> ProtobufError {
    ProtobufError::Malformed {
        field: field.to_owned(),
        why: why.to_owned(),
    }
}

fn object(
    bytes: &[u8],
    shape: &ObjectShape,
    schema: Schema<'_>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    message(bytes, shape, schema, map, depth)?;
    map.retain(|key, value| match schema.property_row(key) {
        Some(property) => is_set(value, schema.other(property.node).shape(), property.field),
        None => true,
    });
    fill(map, shape, schema);
    Ok(())
}

/// The fields of a message and of the parts inlined in it, as they come.
fn message(
    bytes: &[u8],
    shape: &ObjectShape,
    schema: Schema<'_>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > MOST_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let mut reader = Reader::new(bytes);
    while let Some(raw) = reader.field()? {
        let own = |p: &&crate::schema::Property| u32::from(p.field.number) == raw.number && !p.field.inherited;
        if let Some(property) = shape.properties.iter().find(own) {
            let slot = map.entry(property.name.as_ref()).or_insert(Value::Null);
            field(raw, &property.name, schema.other(property.node), slot, depth)?;
        } else if let Some(part) = shape.inlined.iter().find(|p| u32::from(p.number) == raw.number) {
            let inner = schema.other(part.node);
            if let Some(shape) = inner.object() {
                message(raw.bytes("an inlined part")?, shape, inner, map, depth + 1)?;
            }
        }
    }
    Ok(())
}

/// One occurrence of a field, added to what earlier ones left in `slot`.
fn field(
    raw: RawField<'_>,
    name: &str,
    schema: Schema<'_>,
    slot: &mut Value,
    depth: usize,
) -> Result<(), ProtobufError> {
    match schema.shape() {
        Shape::List { message: false, .. } => {
            let Some(of) = schema.items() else { return Ok(()) };
            if !slot.is_array() {
                *slot = Value::Array(Vec::new());
            }
            let Value::Array(items) = slot else { return Ok(()) };
            // Numbers may come packed.
            if raw.wire == BYTES && matches!(of.shape(), Shape::Boolean | Shape::Integer { .. } | Shape::Number) {
                let mut packed = Reader::new(raw.bytes(name)?);
                while !packed.is_empty() {
                    items.push(match of.shape() {
                        Shape::Boolean => Value::Bool(packed.varint()? != 0),
                        Shape::Integer { bits } => integer(packed.varint()?, *bits),
                        _ => double(f64::from_bits(packed.fixed64()?), name)?,
                    });
                }
                return Ok(());
            }
            let mut item = Value::Null;
            single(raw, name, of, &mut item, depth)?;
            items.push(item);
            Ok(())
        }
        Shape::Map { .. } => {
            let Some(of) = schema.values() else { return Ok(()) };
            let (mut key, mut value) = (String::new(), Value::Null);
            let mut entry = Reader::new(raw.bytes(name)?);
            let mut there = false;
            while let Some(part) = entry.field()? {
                match part.number {
                    1 => key = part.string(name)?,
                    2 => {
                        single(part, name, of, &mut value, depth)?;
                        there = true;
                    }
                    _ => {}
                }
            }
            if !there {
                value = absent(of);
            }
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            if let Value::Object(map) = slot {
                map.insert(key, value);
            }
            Ok(())
        }
        _ => single(raw, name, schema, slot, depth),
    }
}

/// What a map's value is when it was left out.
fn absent(schema: Schema<'_>) -> Value {
    match schema.shape() {
        Shape::Boolean => Value::Bool(false),
        Shape::Integer { .. } | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::String(_) => "".into(),
        Shape::Quantity => "0".into(),
        Shape::List { .. } => Value::Array(Vec::new()),
        Shape::Map { .. } => Value::Object(Map::new()),
        Shape::Object(shape) => {
            let mut map = Map::new();
            fill(&mut map, shape, schema);
            Value::Object(map)
        }
        Shape::Any | Shape::SchemaOr { .. } => Value::Null,
    }
}

fn integer(value: u64, bits: u8) -> Value {
    match bits {
        32 => (value as i32).into(),
        _ => (value as i64).into(),
    }
}

fn double(value: f64, name: &str) -> Result<Value, ProtobufError> {
    // A whole number is written without a fraction, as in JSON.
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Ok((value as i64).into());
    }
    let number = Number::from_f64(value).ok_or_else(|| malformed(name, "a number must be finite"))?;
    Ok(Value::Number(number))
}

fn single(
    raw: RawField<'_>,
    name: &str,
    schema: Schema<'_>,
    slot: &mut Value,
    depth: usize,
) -> Result<(), ProtobufError> {
    *slot = match schema.shape() {
        Shape::Any => any(raw.bytes(name)?, name, depth)?,
        Shape::Boolean => Value::Bool(raw.varint(name)? != 0),
        Shape::Integer { bits } => integer(raw.varint(name)?, *bits),
        Shape::Number => double(raw.double(name)?, name)?,
        Shape::String(StringFormat::Plain) => raw.string(name)?.into(),
        Shape::String(StringFormat::Bytes) => scalar::encode_bytes(raw.bytes(name)?).into(),
        Shape::String(StringFormat::Duration) => {
            let nanoseconds = numbers(raw.bytes(name)?, name)?.0;
            duration::format(nanoseconds).into()
        }
        Shape::String(format) => time(raw.bytes(name)?, name, *format)?,
        Shape::Quantity => quantity(raw.bytes(name)?, name)?,
        Shape::IntOrString => int_or_string(raw.bytes(name)?, name)?,
        Shape::SchemaOr { schema: node, or } => schema_or(raw.bytes(name)?, name, schema.other(*node), *or, depth)?,
        // Only lists that are messages come here.
        Shape::List { .. } => {
            let mut items = Vec::new();
            let mut reader = Reader::new(raw.bytes(name)?);
            while let Some(field) = reader.field()? {
                if let (1, Some(of)) = (field.number, schema.items()) {
                    let mut item = Value::Null;
                    single(field, name, of, &mut item, depth + 1)?;
                    items.push(item);
                }
            }
            Value::Array(items)
        }
        Shape::Map { .. } => return Err(malformed(name, "a map within a list or map")),
        Shape::Object(shape) => {
            // A message that comes again is merged.
            let mut map = match slot.take() {
                Value::Object(map) => map,
                _ => Map::new(),
            };
            object(raw.bytes(name)?, shape, schema, &mut map, depth + 1)?;
            Value::Object(map)
        }
    };
    Ok(())
}

/// `RawExtension`, `JSON` and `FieldsV1`: one field of bytes, JSON as a rule.
fn any(bytes: &[u8], name: &str, depth: usize) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut raw = &[][..];
    while let Some(field) = reader.field()? {
        if field.number == 1 {
            raw = field.bytes(name)?;
        }
    }
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    if raw.starts_with(MAGIC) {
        if depth > MOST_DEPTH {
            return Err(ProtobufError::TooDeep);
        }
        return Ok(enveloped(raw, depth + 1)?.into_value());
    }
    parse_raw(raw, name)
}

/// Fields 1 and 2 of a message of numbers.
fn numbers(bytes: &[u8], name: &str) -> Result<(i64, i64), ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut both = (0, 0);
    while let Some(field) = reader.field()? {
        match field.number {
            1 => both.0 = field.varint(name)? as i64,
            2 => both.1 = i64::from(field.varint(name)? as i32),
            _ => {}
        }
    }
    Ok(both)
}

fn time(bytes: &[u8], name: &str, format: StringFormat) -> Result<Value, ProtobufError> {
    // The zero time is an empty message.
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (seconds, nanoseconds) = numbers(bytes, name)?;
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0).clamp(0, 999_999_999);
    let time = jiff::Timestamp::new(seconds, nanoseconds).map_err(|_| malformed(name, "the time is out of range"))?;
    // RFC 3339 has four digits for the year.
    if !(ZERO_YEAR..=LAST_YEAR).contains(&seconds) {
        return Err(malformed(name, "the time is out of range"));
    }
    Ok(match format {
        StringFormat::MicroTime => scalar::format_micro_time(time).into(),
        _ => scalar::format_time(time).into(),
    })
}

/// 0000-01-01T00:00:00Z and 9999-12-30T22:00:00Z, the last second that jiff knows.
const ZERO_YEAR: i64 = -62_167_219_200;
const LAST_YEAR: i64 = 253_402_207_200;

fn quantity(bytes: &[u8], name: &str) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut text = "";
    while let Some(field) = reader.field()? {
        if field.number == 1 {
            text = field.str(name)?;
        }
    }
    if text.is_empty() {
        return Ok("0".into());
    }
    let canonical = crate::quantity::canonicalize(text).map_err(|e| malformed(name, &e.to_string()))?;
    Ok(canonical.into_owned().into())
}

fn int_or_string(bytes: &[u8], name: &str) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let (mut kind, mut int, mut text) = (0, Value::from(0), String::new());
    while let Some(field) = reader.field()? {
        match field.number {
            1 => kind = field.varint(name)?,
            2 => int = integer(field.varint(name)?, 32),
            3 => text = field.string(name)?,
            _ => {}
        }
    }
    match kind {
        0 => Ok(int),
        1 => Ok(text.into()),
        _ => Err(malformed(name, "impossible IntOrString.Type")),
    }
}

fn schema_or(bytes: &[u8], name: &str, schema: Schema<'_>, or: SchemaOr, depth: usize) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut flag = false;
    let mut one = Value::Null;
    let mut list = Vec::new();
    while let Some(field) = reader.field()? {
        match (or, field.number) {
            (SchemaOr::Bool, 1) => flag = field.varint(name)? != 0,
            (SchemaOr::Bool, 2) | (SchemaOr::Array | SchemaOr::Strings, 1) => {
                single(field, name, schema, &mut one, depth + 1)?;
            }
            (SchemaOr::Array, 2) => {
                let mut item = Value::Null;
                single(field, name, schema, &mut item, depth + 1)?;
                list.push(item);
            }
            (SchemaOr::Strings, 2) => list.push(field.string(name)?.into()),
            _ => {}
        }
    }
    Ok(match or {
        _ if one.is_object() => one,
        SchemaOr::Bool => Value::Bool(flag),
        _ if list.is_empty() => Value::Null,
        _ => Value::Array(list),
    })
}
