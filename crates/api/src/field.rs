//! Where in an object something is ([`Cursor`]) and what is wrong there ([`FieldError`]), in upstream's words.
//!
//! A validator never builds a path by hand: it walks a cursor, and each error takes the cursor's path. In tests a
//! cursor that was made with a schema refuses a field name that the schema does not have, so that no rule can be
//! misspelt.

mod quote;

use std::fmt;

use serde_json::Value;

use crate::quantity::Quantity;
use crate::schema::Schema;

pub use quote::quoted;

/// What kind of mistake it is; upstream's `field.ErrorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TypeInvalid,
    NotFound,
    Internal,
}

impl FieldErrorKind {
    /// The cause's `reason` in a Status.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotFound => "FieldValueNotFound",
            Self::Internal => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
            Self::Internal => "Internal error",
        }
    }
}

/// One mistake at one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    /// `spec.containers[0].name`.
    pub path: String,
    /// The offending value as it is shown: a quoted string, a number, JSON; empty where upstream shows none.
    pub value: String,
    pub detail: String,
}

impl FieldError {
    /// The message without the path, as in a Status cause.
    pub fn body(&self) -> String {
        use FieldErrorKind as K;
        let mut out = self.kind.text().to_owned();
        let shows_value = !matches!(self.kind, K::Required | K::Forbidden | K::TooLong | K::Internal);
        if shows_value && !self.value.is_empty() {
            out.push_str(": ");
            out.push_str(&self.value);
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// The mistakes found so far.
#[derive(Debug, Default)]
pub struct ErrorList {
    errors: Vec<FieldError>,
}

impl ErrorList {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, error: FieldError) {
        self.errors.push(error);
    }

    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub fn len(&self) -> usize {
        self.errors.len()
    }

    pub fn as_slice(&self) -> &[FieldError] {
        &self.errors
    }

    pub fn into_vec(self) -> Vec<FieldError> {
        self.errors
    }

    fn add(&mut self, kind: FieldErrorKind, at: &Cursor<'_>, value: String, detail: impl Into<String>) {
        self.errors.push(FieldError {
            kind,
            path: at.path(),
            value,
            detail: detail.into(),
        });
    }

    pub fn required(&mut self, at: &Cursor<'_>, detail: impl Into<String>) {
        self.add(FieldErrorKind::Required, at, String::new(), detail);
    }

    /// The value at the cursor is not acceptable.
    pub fn invalid(&mut self, at: &Cursor<'_>, detail: impl Into<String>) {
        self.add(FieldErrorKind::Invalid, at, at.shown(), detail);
    }

    /// Some other value than the one at the cursor is not acceptable there (a map's key, say).
    pub fn invalid_value(&mut self, at: &Cursor<'_>, value: &Value, detail: impl Into<String>) {
        self.add(FieldErrorKind::Invalid, at, show(value), detail);
    }

    /// What is at the cursor is not acceptable as a whole; upstream does not show it.
    pub fn invalid_unshown(&mut self, at: &Cursor<'_>, detail: impl Into<String>) {
        self.add(FieldErrorKind::Invalid, at, String::new(), detail);
    }

    /// [`invalid`](Self::invalid) for each of the reasons, as the checks of [`names`](crate::names) return them.
    pub fn faults(&mut self, at: &Cursor<'_>, faults: Vec<String>) {
        for fault in faults {
            self.invalid(at, fault);
        }
    }

    /// The value may not differ from the one that is stored.
    pub fn immutable(&mut self, new: &Cursor<'_>, old: &Cursor<'_>) {
        if new.value() != old.value() {
            self.invalid(new, "field is immutable");
        }
    }

    pub fn duplicate(&mut self, at: &Cursor<'_>) {
        self.add(FieldErrorKind::Duplicate, at, at.shown(), "");
    }

    /// Something made of several fields is there twice; `value` is how it is told.
    pub fn duplicate_value(&mut self, at: &Cursor<'_>, value: &Value, detail: impl Into<String>) {
        self.add(FieldErrorKind::Duplicate, at, show(value), detail);
    }

    pub fn forbidden(&mut self, at: &Cursor<'_>, detail: impl Into<String>) {
        self.add(FieldErrorKind::Forbidden, at, String::new(), detail);
    }

    /// The value at the cursor is not one of these, which are shown in this order.
    pub fn not_supported(&mut self, at: &Cursor<'_>, supported: &[&str]) {
        self.not_supported_shown(at, at.shown(), supported);
    }

    fn not_supported_shown(&mut self, at: &Cursor<'_>, value: String, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|s| quoted(s)).collect();
        let detail = format!("supported values: {}", supported.join(", "));
        self.add(FieldErrorKind::NotSupported, at, value, detail);
    }

    /// Some other value than the one at the cursor is not among those supported there.
    pub fn not_supported_value(&mut self, at: &Cursor<'_>, value: &Value, supported: &[&str]) {
        self.not_supported_shown(at, show(value), supported);
    }

    pub fn not_found(&mut self, at: &Cursor<'_>) {
        self.not_found_because(at, "");
    }

    pub fn not_found_because(&mut self, at: &Cursor<'_>, detail: impl Into<String>) {
        self.add(FieldErrorKind::NotFound, at, at.shown(), detail);
    }

    /// Something that is named at the cursor is not there.
    pub fn not_found_value(&mut self, at: &Cursor<'_>, value: &Value, detail: impl Into<String>) {
        self.add(FieldErrorKind::NotFound, at, show(value), detail);
    }

    pub fn too_long(&mut self, at: &Cursor<'_>, most: usize) {
        self.add(
            FieldErrorKind::TooLong,
            at,
            String::new(),
            format!("may not be more than {most} bytes"),
        );
    }

    pub fn too_many(&mut self, at: &Cursor<'_>, actual: usize, most: usize) {
        self.add(
            FieldErrorKind::TooMany,
            at,
            actual.to_string(),
            format!("must have at most {most} items"),
        );
    }
}

/// A value as upstream's messages show it.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::String(s) => quoted(s),
        other => other.to_string(),
    }
}

enum Step<'a> {
    Root,
    Field(&'a Cursor<'a>, &'a str),
    Index(&'a Cursor<'a>, usize),
    Key(&'a Cursor<'a>, &'a str),
}

/// A place in an object: the value there, if any, and how one gets to it.
pub struct Cursor<'a> {
    value: Option<&'a Value>,
    step: Step<'a>,
    schema: Option<Schema<'a>>,
}

impl<'a> Cursor<'a> {
    /// The whole object. With a schema, a debug build refuses to walk to a field that the schema does not have.
    pub fn root(value: &'a Value, schema: Option<Schema<'a>>) -> Self {
        Self {
            value: Some(value),
            step: Step::Root,
            schema,
        }
    }

    /// The field `name` of the map here.
    pub fn at<'b>(&'b self, name: &'b str) -> Cursor<'b> {
        let schema = match self.schema {
            Some(schema) if cfg!(debug_assertions) => {
                let next = schema.property(name);
                debug_assert!(
                    next.is_some() || !schema.is_closed_object(),
                    "no field {name:?} in the schema of {:?}",
                    self.path()
                );
                next
            }
            _ => None,
        };
        let value = self
            .value
            .and_then(|v| v.as_object()?.get(name))
            .filter(|v| !v.is_null());
        Cursor {
            value,
            step: Step::Field(self, name),
            schema,
        }
    }

    /// A place that upstream's messages name though the types have no such field (`status.Phase`). Nothing is there.
    pub fn said<'b>(&'b self, name: &'b str) -> Cursor<'b> {
        Cursor {
            value: None,
            step: Step::Field(self, name),
            schema: None,
        }
    }

    /// The elements of the list here.
    pub fn items<'b>(&'b self) -> impl Iterator<Item = Cursor<'b>> + 'b {
        let items: &'b [Value] = self.value.and_then(Value::as_array).map_or(&[], Vec::as_slice);
        let schema = self.schema.and_then(|s| s.items());
        items.iter().enumerate().map(move |(i, v)| Cursor {
            value: Some(v),
            step: Step::Index(self, i),
            schema,
        })
    }

    /// The element at `index` of the list here, present or not.
    pub fn index(&self, index: usize) -> Cursor<'_> {
        Cursor {
            value: self.value.and_then(|v| v.as_array()?.get(index)),
            step: Step::Index(self, index),
            schema: self.schema.and_then(|s| s.items()),
        }
    }

    /// The entries of the map here, with paths like `spec.limits[cpu]`.
    pub fn entries<'b>(&'b self) -> impl Iterator<Item = (&'b str, Cursor<'b>)> + 'b {
        let schema = self.schema.and_then(|s| s.values());
        self.value
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(move |(k, v)| {
                (
                    k.as_str(),
                    Cursor {
                        value: Some(v),
                        step: Step::Key(self, k),
                        schema,
                    },
                )
            })
    }

    /// `path[key]` of the map here, present or not.
    pub fn key<'b>(&'b self, key: &'b str) -> Cursor<'b> {
        let schema = self.schema.and_then(|s| s.values());
        let value = self
            .value
            .and_then(|v| v.as_object()?.get(key))
            .filter(|v| !v.is_null());
        Cursor {
            value,
            step: Step::Key(self, key),
            schema,
        }
    }

    pub fn value(&self) -> Option<&'a Value> {
        self.value
    }

    pub fn is_set(&self) -> bool {
        self.value.is_some()
    }

    /// Absent, or an empty string, list or map.
    pub fn is_empty(&self) -> bool {
        match self.value {
            None | Some(Value::Null) => true,
            Some(Value::String(s)) => s.is_empty(),
            Some(Value::Array(a)) => a.is_empty(),
            Some(Value::Object(o)) => o.is_empty(),
            Some(_) => false,
        }
    }

    /// The string here; empty when absent.
    pub fn str(&self) -> &'a str {
        self.value.and_then(Value::as_str).unwrap_or_default()
    }

    pub fn i64(&self) -> Option<i64> {
        self.value.and_then(Value::as_i64)
    }

    pub fn bool(&self) -> Option<bool> {
        self.value.and_then(Value::as_bool)
    }

    /// The integer here, or 0.
    pub fn int(&self) -> i64 {
        self.i64().unwrap_or_default()
    }

    /// Whether true is here.
    pub fn is_true(&self) -> bool {
        self.bool().unwrap_or_default()
    }

    /// The strings of the list here.
    pub fn strs<'b>(&'b self) -> impl Iterator<Item = &'b str> + 'b {
        let items: &'b [Value] = self.value.and_then(Value::as_array).map_or(&[], Vec::as_slice);
        items.iter().filter_map(Value::as_str)
    }

    /// The quantity here, if there is one.
    pub fn quantity(&self) -> Option<Quantity> {
        Quantity::from_json(self.value?).ok()
    }

    /// How many elements the list or map here has.
    pub fn len(&self) -> usize {
        match self.value {
            Some(Value::Array(a)) => a.len(),
            Some(Value::Object(o)) => o.len(),
            _ => 0,
        }
    }

    fn shown(&self) -> String {
        self.value.map_or_else(|| "null".into(), show)
    }

    /// `spec.containers[0].name`.
    pub fn path(&self) -> String {
        let mut out = String::new();
        self.write_path(&mut out);
        out
    }

    fn write_path(&self, out: &mut String) {
        use std::fmt::Write as _;
        match self.step {
            Step::Root => {}
            Step::Field(parent, name) => {
                parent.write_path(out);
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index(parent, i) => {
                parent.write_path(out);
                let _ = write!(out, "[{i}]");
            }
            Step::Key(parent, key) => {
                parent.write_path(out);
                let _ = write!(out, "[{key}]");
            }
        }
    }
}
