//! What an expression computes with. Values are shared, never changed.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value as Json;

use super::function::named::Format;
use super::function::semver::Version;
use super::function::url::Url;
use crate::quantity::Quantity;

#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    List(Arc<List>),
    Map(Arc<BTreeMap<Key, Value>>),
    Optional(Option<Arc<Value>>),
    /// By its name.
    Type(&'static str),
    Quantity(Quantity),
    Url(Arc<Url>),
    Ip(IpAddr),
    /// The address as written, and the length of the prefix.
    Cidr(IpAddr, u8),
    Semver(Arc<Version>),
    Format(&'static Format),
}

/// What a map finds its values by. Whole numbers are one kind: `1` and `1u` are the same key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Int(i128),
    String(Arc<str>),
}

#[derive(Clone, Debug, Default)]
pub struct List {
    pub items: Vec<Value>,
    pub merge: Merge,
}

/// How a list of an object merges, which decides what `==` and `+` mean (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default)]
pub enum Merge {
    #[default]
    Atomic,
    Set,
    Map(Arc<[Arc<str>]>),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::List(Arc::new(List {
            items,
            merge: Merge::Atomic,
        }))
    }
}

impl Value {
    /// The map or object with these entries.
    pub fn map(entries: impl IntoIterator<Item = (Key, Value)>) -> Self {
        Self::Map(Arc::new(entries.into_iter().collect()))
    }

    pub fn some(value: Value) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// JSON of which nothing more is known.
    pub fn from_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => Self::Int(n),
                (None, Some(n)) => Self::Uint(n),
                _ => Self::Double(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => s.as_str().into(),
            Json::Array(items) => items.iter().map(Self::from_json).collect::<Vec<_>>().into(),
            Json::Object(map) => Self::map(
                map.iter()
                    .map(|(k, v)| (Key::String(k.as_str().into()), Self::from_json(v))),
            ),
        }
    }

    /// The name of its type, as messages have it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(list) => Some(&list.items),
            _ => None,
        }
    }

    /// What a map would find it by.
    pub fn to_key(&self) -> Option<Key> {
        Some(match self {
            Self::Bool(b) => Key::Bool(*b),
            Self::Int(n) => Key::Int((*n).into()),
            Self::Uint(n) => Key::Int((*n).into()),
            Self::Double(n) if n.fract() == 0.0 && n.abs() < 1.8e19 => Key::Int(*n as i128),
            Self::String(s) => Key::String(s.clone()),
            _ => return None,
        })
    }

    /// Zero, empty, false, null.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(b) => !b,
            Self::Int(n) => *n == 0,
            Self::Uint(n) => *n == 0,
            Self::Double(n) => *n == 0.0,
            Self::String(s) => s.is_empty(),
            Self::Bytes(b) => b.is_empty(),
            Self::Duration(n) => *n == 0,
            Self::List(list) => list.items.is_empty(),
            Self::Map(map) => map.is_empty(),
            Self::Optional(inner) => inner.is_none(),
            _ => false,
        }
    }

    /// How much there is to look at: what comparing or copying it costs.
    pub fn size(&self) -> u64 {
        match self {
            Self::String(s) => s.len() as u64 / 10 + 1,
            Self::Bytes(b) => b.len() as u64 / 10 + 1,
            Self::List(list) => 1 + list.items.iter().map(Self::size).sum::<u64>(),
            Self::Map(map) => 1 + map.values().map(Self::size).sum::<u64>(),
            Self::Optional(Some(inner)) => inner.size(),
            _ => 1,
        }
    }
}

impl Key {
    pub fn to_value(&self) -> Value {
        match self {
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(n) => i64::try_from(*n).map_or_else(|_| Value::Uint(*n as u64), Value::Int),
            Self::String(s) => Value::String(s.clone()),
        }
    }
}

/// Numbers compare across their types.
fn compare_numbers(a: &Value, b: &Value) -> Option<Option<Ordering>> {
    let whole = |v: &Value| match v {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Uint(n) => Some(i128::from(*n)),
        _ => None,
    };
    let float = |v: &Value| match v {
        Value::Double(n) => Some(*n),
        _ => whole(v).map(|n| n as f64),
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(Some(a.cmp(&b))),
        _ => Some(float(a)?.partial_cmp(&float(b)?)),
    }
}

impl Value {
    /// The order of two values that have one. The inner nothing is a NaN's.
    pub fn order(&self, other: &Self) -> Option<Option<Ordering>> {
        Some(Some(match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::Duration(a), Self::Duration(b)) => a.cmp(b),
            (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            _ => return compare_numbers(self, other),
        }))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a.text == b.text,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a, n), Self::Cidr(b, m)) => a == b && n == m,
            (Self::Semver(a), Self::Semver(b)) => a.order(b) == Ordering::Equal,
            (Self::Format(a), Self::Format(b)) => a.name == b.name,
            _ => self.order(other) == Some(Some(Ordering::Equal)),
        }
    }
}

/// What an element of a keyed list is found by.
fn keys_of<'v>(item: &'v Value, keys: &[Arc<str>]) -> Vec<Option<&'v Value>> {
    let Value::Map(map) = item else { return Vec::new() };
    keys.iter().map(|k| map.get(&Key::String(k.clone()))).collect()
}

impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        if self.items.len() != other.items.len() {
            return false;
        }
        match &self.merge {
            Merge::Atomic => self.items == other.items,
            Merge::Set => self.items.iter().all(|a| other.items.contains(a)),
            Merge::Map(keys) => self.items.iter().all(|a| {
                let wanted = keys_of(a, keys);
                let found = other.items.iter().find(|b| keys_of(b, keys) == wanted);
                found == Some(a)
            }),
        }
    }
}

impl List {
    /// `+`: a set takes what it has not; a keyed list takes over what has the same keys.
    pub fn plus(&self, other: &Self) -> Self {
        let mut items = self.items.clone();
        for new in &other.items {
            match &self.merge {
                Merge::Atomic => items.push(new.clone()),
                Merge::Set if items.contains(new) => {}
                Merge::Set => items.push(new.clone()),
                Merge::Map(keys) => {
                    let wanted = keys_of(new, keys);
                    match items.iter_mut().find(|old| keys_of(old, keys) == wanted) {
                        Some(old) => *old = new.clone(),
                        None => items.push(new.clone()),
                    }
                }
            }
        }
        Self {
            items,
            merge: self.merge.clone(),
        }
    }
}
