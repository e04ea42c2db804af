//! Elements of field paths: a field's name, an element of a list by its keys, its value or its place; as they stand in
//! a `FieldsV1` and as messages show them.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Number, Value};

/// A value that tells an element of a list from the others.
#[derive(Clone, Debug)]
pub enum Scalar {
    Number(Number),
    String(Box<str>),
    Bool(bool),
    /// Anything else that somebody wrote there, as it was.
    Other(Value),
}

impl Scalar {
    pub fn from_value(value: &Value) -> Self {
        match value {
            Value::Number(n) => Self::Number(n.clone()),
            Value::String(s) => Self::String(s.as_str().into()),
            Value::Bool(b) => Self::Bool(*b),
            other => Self::Other(other.clone()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Number(_) => 0,
            Self::String(_) => 1,
            Self::Bool(_) => 2,
            Self::Other(_) => 3,
        }
    }

    fn write_json(&self, out: &mut String) {
        use fmt::Write as _;
        // Writing to a String does not fail.
        let _ = match self {
            Self::Number(n) => write!(out, "{n}"),
            Self::Bool(b) => write!(out, "{b}"),
            Self::String(s) => {
                write_json_string(s, out);
                Ok(())
            }
            Self::Other(v) => write!(out, "{v}"),
        };
    }
}

fn write_json_string(text: &str, out: &mut String) {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

/// Numbers compare by what they mean.
fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a
            .as_f64()
            .unwrap_or_default()
            .total_cmp(&b.as_f64().unwrap_or_default()),
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => compare_numbers(a, b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Other(a), Self::Other(b)) => a.to_string().cmp(&b.to_string()),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::String(s) => write!(f, "{s:?}"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Other(v) => write!(f, "{v}"),
        }
    }
}

/// One element of a path. The order of variants is the order in which sets are sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A field of an object or a key of a map.
    Field(Box<str>),
    /// The element of a keyed list that has these values, sorted by name.
    Key(Box<[(Box<str>, Scalar)]>),
    /// The element of a set that is this value.
    Value(Scalar),
    /// The element of an atomic list.
    Index(i64),
}

/// A key of a `FieldsV1` that is not a path element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an element of a field path: expected f:NAME, k:{{...}}, v:VALUE or i:NUMBER")]
pub struct BadStep(String);

impl Step {
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// The key as it stands in a `FieldsV1`.
    pub(super) fn write(&self, out: &mut String) {
        use fmt::Write as _;
        match self {
            Self::Field(name) => {
                out.push_str("f:");
                out.push_str(name);
            }
            Self::Key(keys) => {
                out.push_str("k:{");
                for (i, (name, value)) in keys.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_json_string(name, out);
                    out.push(':');
                    value.write_json(out);
                }
                out.push('}');
            }
            Self::Value(value) => {
                out.push_str("v:");
                value.write_json(out);
            }
            Self::Index(i) => {
                let _ = write!(out, "i:{i}");
            }
        }
    }

    /// `None` for kinds of elements that a later version may know.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, BadStep> {
        let bad = || BadStep(text.to_owned());
        let (kind, rest) = text.split_once(':').filter(|(k, _)| k.len() == 1).ok_or_else(bad)?;
        Ok(Some(match kind {
            "f" => Self::field(rest),
            "v" => Self::Value(Scalar::from_value(&serde_json::from_str(rest).map_err(|_| bad())?)),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).map_err(|_| bad())?;
                let mut keys: Vec<(Box<str>, Scalar)> = keys
                    .iter()
                    .map(|(name, value)| (name.as_str().into(), Scalar::from_value(value)))
                    .collect();
                keys.sort_by(|a, b| a.0.cmp(&b.0));
                Self::Key(keys.into())
            }
            "i" => Self::Index(rest.parse().map_err(|_| bad())?),
            _ => return Ok(None),
        }))
    }
}

/// `.spec`, `[name="a",port=80]`, `[="x"]`, `[0]`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                f.write_str("[")?;
                for (i, (name, value)) in keys.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(i) => write!(f, "[{i}]"),
        }
    }
}

pub(super) fn show_path(path: &[Step]) -> String {
    path.iter().map(ToString::to_string).collect()
}
