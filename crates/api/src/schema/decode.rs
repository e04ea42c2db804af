//! A decoded value against its schema, in one pass: types, unknown fields, and the form that upstream would print.
//!
//! What "the form" is depends on who declared the object. Built-in types are Go structs upstream: null and empty mean
//! unset, zero means unset except behind a pointer, and a scalar without `omitempty` and a struct that is no pointer are
//! always there. Custom resources keep what was written, less the fields that their schema does not know. Defaults and
//! rules are not applied here.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::scalar::{self, ZERO_TIME};
use super::{Field, ObjectShape, Property, Schema, SchemaOr, Shape, StringFormat};
use crate::field::{FieldError, FieldErrorKind};
use crate::{duration, quantity};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A whole object: brought into the form in which it is kept.
    Whole,
    /// An applied configuration: what is not there has not been said, so nothing is filled in or taken away but unknown
    /// fields.
    Partial,
}

/// What was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Paths like `spec.containers[0].foo`.
    pub unknown: Vec<String>,
}

/// A value of the wrong type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TypeError {
    /// `spec.replicas`.
    pub path: String,
    /// In the words of upstream's decoder.
    pub message: String,
    /// JSON's name for what is there (`string`) and what should be (`integer`).
    pub found: &'static str,
    pub expected: &'static str,
}

impl TypeError {
    /// As validation says it of a custom resource.
    pub fn field_error(&self) -> FieldError {
        FieldError {
            kind: FieldErrorKind::TypeInvalid,
            path: self.path.clone(),
            value: format!("{:?}", self.found),
            detail: format!(
                "{} in body must be of type {}: {:?}",
                self.path, self.expected, self.found
            ),
        }
    }
}

/// More than this many mistakes are not worth naming.
const MOST: usize = 100;
const MOST_DEPTH: usize = 256;

/// Checks `value` and brings it into form; unknown fields are dropped and named.
pub fn decode(value: &mut Value, schema: Schema<'_>, mode: Mode) -> Result<Decoded, Vec<TypeError>> {
    let mut walk = Walk {
        mode,
        go: schema.object().is_some_and(|o| o.name.is_some()),
        path: String::new(),
        fields: Vec::new(),
        within: Vec::new(),
        depth: 0,
        unknown: Vec::new(),
        errors: Vec::new(),
    };
    if value.is_null() && schema.object().is_some() {
        walk.mismatch(value, schema);
    } else {
        walk.value(value, schema);
    }
    if walk.errors.is_empty() {
        Ok(Decoded { unknown: walk.unknown })
    } else {
        Err(walk.errors)
    }
}

struct Walk<'a> {
    mode: Mode,
    /// The nearest object is a built-in type.
    go: bool,
    path: String,
    /// Where in `path` the names of fields are: Go's errors leave out indexes.
    fields: Vec<(usize, usize)>,
    /// The short names of the types around.
    within: Vec<&'a str>,
    depth: usize,
    unknown: Vec<String>,
    errors: Vec<TypeError>,
}

/// JSON's name for a value's type, as validation messages have it.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn expected_type(schema: Schema<'_>) -> &'static str {
    match schema.shape() {
        Shape::Any => "object",
        Shape::Boolean => "boolean",
        Shape::Integer { .. } => "integer",
        Shape::Number => "number",
        Shape::String(_) | Shape::Quantity => "string",
        Shape::IntOrString => "integer,string",
        Shape::List { .. } => "array",
        Shape::Map { .. } | Shape::Object(_) | Shape::SchemaOr { .. } => "object",
    }
}

/// `v1.PodSpec` of `io.k8s.api.core.v1.PodSpec`.
fn go_name(object: &ObjectShape) -> String {
    let name = object.name.as_deref().unwrap_or("object");
    let mut parts = name.rsplit('.');
    match (parts.next(), parts.next()) {
        (Some(short), Some(package)) => format!("{package}.{short}"),
        _ => name.to_owned(),
    }
}

fn go_type(schema: Schema<'_>) -> String {
    match schema.shape() {
        Shape::Any => "runtime.RawExtension".into(),
        Shape::Boolean => "bool".into(),
        Shape::Integer { bits } => format!("int{bits}"),
        Shape::Number => "float64".into(),
        Shape::String(StringFormat::Bytes) => "[]uint8".into(),
        Shape::String(_) => "string".into(),
        Shape::Quantity => "resource.Quantity".into(),
        Shape::IntOrString => "int32".into(),
        Shape::SchemaOr { schema: node, .. } => go_type(schema.other(*node)),
        Shape::List { .. } => format!("[]{}", schema.items().map(go_type).unwrap_or_default()),
        Shape::Map { .. } => format!("map[string]{}", schema.values().map(go_type).unwrap_or_default()),
        Shape::Object(object) => go_name(object),
    }
}

impl<'a> Walk<'a> {
    fn push(&mut self, path: String, message: String, value: &Value, schema: Schema<'_>) {
        if self.errors.len() < MOST {
            self.errors.push(TypeError {
                path,
                message,
                found: type_of(value),
                expected: expected_type(schema),
            });
        }
    }

    /// `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`.
    fn mismatch(&mut self, value: &Value, schema: Schema<'_>) {
        let found = match (value, schema.shape()) {
            (Value::Null, _) => "null".to_owned(),
            (Value::Bool(_), _) => "bool".into(),
            (Value::Number(n), Shape::Integer { .. } | Shape::Number) => format!("number {n}"),
            (Value::Number(_), _) => "number".into(),
            (Value::String(_), _) => "string".into(),
            (Value::Array(_), _) => "array".into(),
            (Value::Object(_), _) => "object".into(),
        };
        let named = !matches!(
            schema.shape(),
            Shape::IntOrString | Shape::String(StringFormat::Time | StringFormat::MicroTime)
        );
        let into = match self.within.last() {
            Some(short) if named && !self.fields.is_empty() => {
                let mut into = format!("struct field {short}");
                for (start, end) in &self.fields {
                    let _ = write!(into, ".{}", &self.path[*start..*end]);
                }
                into
            }
            _ => "value".into(),
        };
        let message = format!(
            "json: cannot unmarshal {found} into Go {into} of type {}",
            go_type(schema)
        );
        self.push(self.path.clone(), message, value, schema);
    }

    /// The value has its type but not its form.
    fn malformed(&mut self, value: &Value, schema: Schema<'_>, message: String) {
        self.push(self.path.clone(), message, value, schema);
    }

    fn unknown(&mut self) {
        if self.unknown.len() < MOST {
            self.unknown.push(self.path.clone());
        }
    }

    /// Runs `inside` one step further down.
    fn step(&mut self, name: &str, is_field: bool, inside: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        let start = self.path.len();
        self.path.push_str(name);
        if is_field {
            self.fields.push((start, self.path.len()));
        }
        inside(self);
        if is_field {
            self.fields.pop();
        }
        self.path.truncate(length);
    }

    fn value(&mut self, value: &mut Value, schema: Schema<'a>) {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            self.malformed(&Value::Null, schema, format!("exceeded max depth {MOST_DEPTH}"));
        } else {
            self.shaped(value, schema);
        }
        self.depth -= 1;
    }

    fn shaped(&mut self, value: &mut Value, schema: Schema<'a>) {
        match (schema.shape(), &mut *value) {
            (Shape::Any, _) => {}
            (_, Value::Null) if schema.node().nullable || self.mode == Mode::Partial => {}
            (Shape::Boolean, Value::Bool(_)) => {}
            (Shape::Number, Value::Number(number)) => {
                // Go prints a whole number without a fraction.
                let whole = number
                    .as_f64()
                    .filter(|f| self.go && number.is_f64() && f.fract() == 0.0 && f.abs() < 9e15);
                if let Some(whole) = whole {
                    *value = (whole as i64).into();
                }
            }
            (Shape::Integer { bits }, Value::Number(number)) => {
                let whole = match number.as_i64() {
                    // A custom resource's `1.0` is an integer.
                    None if !self.go => number
                        .as_f64()
                        .filter(|f| f.fract() == 0.0 && f.abs() < 9e15)
                        .map(|f| f as i64),
                    whole => whole,
                };
                match whole {
                    Some(whole) if *bits == 64 || i32::try_from(whole).is_ok() => *value = whole.into(),
                    _ => self.mismatch(value, schema),
                }
            }
            (Shape::String(format), Value::String(text)) => {
                if !self.go {
                    return;
                }
                let formed = match format {
                    StringFormat::Plain => return,
                    StringFormat::Bytes => scalar::decode_bytes(text).map(|bytes| scalar::encode_bytes(&bytes)),
                    StringFormat::Time => scalar::parse_time(text).map(scalar::format_time),
                    StringFormat::MicroTime => scalar::parse_time(text).map(scalar::format_micro_time),
                    StringFormat::Duration => match duration::parse(text) {
                        Some(nanoseconds) => Ok(duration::format(nanoseconds)),
                        None => Err(format!("time: invalid duration {text:?}")),
                    },
                };
                match formed {
                    Ok(formed) => *text = formed,
                    Err(message) => self.malformed(value, schema, message),
                }
            }
            (Shape::IntOrString, Value::String(_)) => {}
            (Shape::IntOrString, Value::Number(number)) => {
                if number.as_i64().is_none_or(|n| self.go && i32::try_from(n).is_err()) {
                    self.mismatch(value, schema);
                }
            }
            (Shape::Quantity, Value::String(_) | Value::Number(_)) => {
                let text = match &*value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                match quantity::canonicalize(&text) {
                    Ok(canonical) => *value = Value::String(canonical.into_owned()),
                    Err(error) => self.malformed(value, schema, error.to_string()),
                }
            }
            (Shape::SchemaOr { schema: node, or }, _) => self.schema_or(value, schema.other(*node), *or),
            (Shape::List { .. }, Value::Array(items)) => {
                let Some(of) = schema.items() else { return };
                let length = self.path.len();
                for (at, item) in items.iter_mut().enumerate() {
                    let _ = write!(self.path, "[{at}]");
                    self.element(item, of);
                    self.path.truncate(length);
                }
            }
            (Shape::Map { .. }, Value::Object(map)) => {
                let Some(of) = schema.values() else { return };
                if !self.go && self.mode == Mode::Whole && !of.node().nullable && !matches!(of.shape(), Shape::Any) {
                    map.retain(|_, v| !v.is_null());
                }
                for (key, item) in map.iter_mut() {
                    self.step(key, false, |walk| walk.element(item, of));
                }
            }
            (Shape::Object(object), Value::Object(map)) => self.object(map, object, schema),
            _ => self.mismatch(value, schema),
        }
    }

    /// An element of a list or map, where Go turns null into zero.
    fn element(&mut self, value: &mut Value, schema: Schema<'a>) {
        if value.is_null() && self.go && self.mode == Mode::Whole {
            *value = match schema.shape() {
                Shape::Boolean => Value::Bool(false),
                Shape::Integer { .. } | Shape::Number | Shape::IntOrString => 0.into(),
                Shape::String(StringFormat::Plain | StringFormat::Bytes) => "".into(),
                Shape::Quantity => "0".into(),
                Shape::List { .. } => Value::Array(Vec::new()),
                Shape::Map { .. } | Shape::Object(_) => Value::Object(Map::new()),
                Shape::Any | Shape::String(_) | Shape::SchemaOr { .. } => return,
            };
        }
        self.value(value, schema);
    }

    fn object(&mut self, map: &mut Map<String, Value>, object: &'a ObjectShape, schema: Schema<'a>) {
        let go_outside = self.go;
        self.go = object.name.is_some();
        if let Some(name) = object.name.as_deref() {
            self.within.push(name.rsplit('.').next().unwrap_or(name));
        }
        map.retain(|key, value| match schema.property_row(key) {
            Some(property) => {
                let mut keep = true;
                self.step(key, true, |walk| keep = walk.property(value, property, schema));
                keep
            }
            None if object.preserve_unknown => true,
            None => {
                self.step(key, true, Self::unknown);
                false
            }
        });
        if self.go && self.mode == Mode::Whole {
            fill(map, object, schema);
        }
        if object.name.is_some() {
            self.within.pop();
        }
        self.go = go_outside;
    }

    /// False when the property is as good as absent.
    fn property(&mut self, value: &mut Value, property: &'a Property, schema: Schema<'a>) -> bool {
        let here = schema.other(property.node);
        if self.mode == Mode::Partial {
            self.value(value, here);
            return true;
        }
        if value.is_null() {
            return !self.go && (here.node().nullable || matches!(here.shape(), Shape::Any));
        }
        self.value(value, here);
        !self.go || is_set(value, here.shape(), property.field)
    }

    fn schema_or(&mut self, value: &mut Value, schema: Schema<'a>, or: SchemaOr) {
        match (or, &mut *value) {
            (_, Value::Object(_)) => self.value(value, schema),
            (SchemaOr::Bool, Value::Bool(_)) => {}
            (SchemaOr::Array, Value::Array(items)) => {
                let length = self.path.len();
                for (at, item) in items.iter_mut().enumerate() {
                    let _ = write!(self.path, "[{at}]");
                    self.element(item, schema);
                    self.path.truncate(length);
                }
            }
            (SchemaOr::Strings, Value::Array(items)) if items.iter().all(Value::is_string) => {}
            _ => self.mismatch(value, schema),
        }
    }
}

/// Whether Go would print the value, or would find it again in protobuf (which knows no empty lists).
pub(crate) fn is_set(value: &Value, shape: &Shape, field: Field) -> bool {
    let omit_zero = field.omit_empty && !field.pointer;
    match (shape, value) {
        (_, Value::Null) => false,
        (Shape::Any, _) => true,
        (_, Value::Array(items)) => !items.is_empty(),
        (Shape::Map { .. }, Value::Object(map)) => !map.is_empty(),
        (Shape::Boolean, Value::Bool(false)) => !omit_zero,
        (Shape::Integer { .. } | Shape::Number, Value::Number(n)) => !omit_zero || n.as_f64() != Some(0.0),
        (Shape::String(StringFormat::Plain | StringFormat::Bytes), Value::String(text)) => {
            !omit_zero || !text.is_empty()
        }
        (Shape::String(StringFormat::Time | StringFormat::MicroTime), Value::String(text)) => {
            !text.starts_with("0001-01-01T00:00:00")
                || scalar::parse_time(text).is_ok_and(|t| t.as_second() != ZERO_TIME)
        }
        _ => true,
    }
}

/// The zero that Go prints for a field that nobody set, if it prints one: a scalar without `omitempty`, and a struct that is
/// not behind a pointer, which `omitempty` never leaves out.
pub(crate) fn zero(property: &Property, schema: Schema<'_>) -> Option<Value> {
    let field = property.field;
    if field.pointer || field.omit_zero || field.number == 0 {
        return None;
    }
    match schema.shape() {
        Shape::Object(object) if object.name.is_some() => {
            let mut map = Map::new();
            fill(&mut map, object, schema);
            Some(Value::Object(map))
        }
        _ if field.omit_empty => None,
        Shape::Boolean => Some(Value::Bool(false)),
        Shape::Integer { .. } | Shape::Number => Some(0.into()),
        Shape::String(StringFormat::Plain) => Some("".into()),
        _ => None,
    }
}

/// Fills in what upstream always prints.
pub(crate) fn fill(map: &mut Map<String, Value>, object: &ObjectShape, schema: Schema<'_>) {
    for property in &object.properties {
        if !map.contains_key(property.name.as_ref())
            && let Some(zero) = zero(property, schema.other(property.node))
        {
            map.insert(property.name.to_string(), zero);
        }
    }
}
