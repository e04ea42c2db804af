//! A custom resource's schema as an expression sees it: which types its values have, and the values themselves.
//!
//! What has no type (`x-kubernetes-preserve-unknown-fields` alone) is not there for an expression.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::cel::{Key, List, Merge, ObjectType, Type, Value, escape};
use crate::duration;
use crate::schema::scalar;

/// One node of a schema.
pub(super) struct Typed {
    kind: Kind,
}

enum Kind {
    /// `x-kubernetes-int-or-string`
    Open,
    Boolean,
    Integer,
    Number,
    Text(Text),
    List {
        items: Box<Typed>,
        merge: Merge,
    },
    Map(Box<Typed>),
    /// By the name in JSON; with the name in expressions.
    Object(BTreeMap<String, (Arc<str>, Typed)>),
}

enum Text {
    Plain,
    Bytes,
    Date,
    Time,
    Duration,
}

fn text<'s>(schema: &'s Json, key: &str) -> &'s str {
    schema.get(key).and_then(Json::as_str).unwrap_or_default()
}

fn flag(schema: &Json, key: &str) -> bool {
    schema.get(key).and_then(Json::as_bool).unwrap_or(false)
}

fn plain(kind: Kind) -> Typed {
    Typed { kind }
}

impl Typed {
    /// The node of a schema; a resource has apiVersion, kind and of its metadata the names, whatever its schema says.
    pub fn new(schema: &Json, is_resource: bool) -> Option<Self> {
        Self::at(schema, is_resource, 0)
    }

    fn at(schema: &Json, is_resource: bool, depth: usize) -> Option<Self> {
        if depth > super::MOST_DEPTH {
            return None;
        }
        if flag(schema, "x-kubernetes-int-or-string") {
            return Some(plain(Kind::Open));
        }
        let below = |schema: &Json| Self::at(schema, flag(schema, "x-kubernetes-embedded-resource"), depth + 1);
        let kind = match text(schema, "type") {
            "boolean" => Kind::Boolean,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "string" => Kind::Text(match text(schema, "format") {
                "byte" => Text::Bytes,
                "date" => Text::Date,
                "date-time" | "datetime" => Text::Time,
                "duration" => Text::Duration,
                _ => Text::Plain,
            }),
            "array" => Kind::List {
                items: Box::new(below(schema.get("items")?)?),
                merge: merge(schema),
            },
            "object" => {
                if let Some(values @ Json::Object(_)) = schema.get("additionalProperties") {
                    return Some(plain(Kind::Map(Box::new(below(values)?))));
                }
                let mut fields = BTreeMap::new();
                for (name, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
                    if let (Some(escaped), Some(typed)) = (escape(name), below(property)) {
                        fields.insert(name.clone(), (escaped.into(), typed));
                    }
                }
                if is_resource {
                    let string = || plain(Kind::Text(Text::Plain));
                    let named = |names: [&str; 2]| {
                        names
                            .into_iter()
                            .map(|n| (n.to_owned(), (n.into(), string())))
                            .collect::<BTreeMap<_, _>>()
                    };
                    fields.extend(named(["apiVersion", "kind"]));
                    let metadata = plain(Kind::Object(named(["name", "generateName"])));
                    fields.insert("metadata".to_owned(), ("metadata".into(), metadata));
                }
                Kind::Object(fields)
            }
            _ => return None,
        };
        Some(plain(kind))
    }

    /// Its type; objects are named by where they are.
    pub fn to_type(&self, name: &str) -> Type {
        match &self.kind {
            Kind::Open => Type::Dyn,
            Kind::Boolean => Type::Bool,
            Kind::Integer => Type::Int,
            Kind::Number => Type::Double,
            Kind::Text(Text::Plain) => Type::String,
            Kind::Text(Text::Bytes) => Type::Bytes,
            Kind::Text(Text::Date | Text::Time) => Type::Timestamp,
            Kind::Text(Text::Duration) => Type::Duration,
            Kind::List { items, .. } => Type::list(items.to_type(&format!("{name}.@idx"))),
            Kind::Map(values) => Type::map(Type::String, values.to_type(&format!("{name}.@elem"))),
            Kind::Object(fields) => Type::Object(Arc::new(ObjectType {
                open: false,
                name: name.to_owned(),
                fields: fields
                    .values()
                    .map(|(escaped, typed)| (escaped.to_string(), typed.to_type(&format!("{name}.{escaped}"))))
                    .collect(),
            })),
        }
    }

    /// What is there, as expressions compute with it.
    pub fn value(&self, json: &Json) -> Value {
        match (&self.kind, json) {
            (_, Json::Null) => Value::Null,
            (Kind::Integer, Json::Number(n)) => match n.as_i64() {
                Some(n) => Value::Int(n),
                None => Value::Int(n.as_f64().unwrap_or_default() as i64),
            },
            (Kind::Number, Json::Number(n)) => Value::Double(n.as_f64().unwrap_or_default()),
            (Kind::Text(format), Json::String(s)) => text_value(format, s),
            (Kind::List { items, merge }, Json::Array(all)) => Value::List(Arc::new(List {
                items: all.iter().map(|v| items.value(v)).collect(),
                merge: merge.clone(),
            })),
            (Kind::Map(values), Json::Object(map)) => Value::map(
                map.iter()
                    .map(|(k, v)| (Key::String(k.as_str().into()), values.value(v))),
            ),
            (Kind::Object(fields), Json::Object(map)) => {
                Value::map(fields.iter().filter_map(|(name, (escaped, of))| {
                    let found = map.get(name)?;
                    Some((Key::String(escaped.clone()), of.value(found)))
                }))
            }
            _ => Value::from_json(json),
        }
    }
}

fn merge(schema: &Json) -> Merge {
    match text(schema, "x-kubernetes-list-type") {
        "set" => Merge::Set,
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Json::as_array);
            // As expressions have them: keys are plain names mostly.
            let keys = keys.into_iter().flatten().filter_map(|k| escape(k.as_str()?));
            Merge::Map(keys.map(Arc::from).collect())
        }
        _ => Merge::Atomic,
    }
}

/// What cannot be read stays a string; the format's own check refuses it.
fn text_value(format: &Text, s: &str) -> Value {
    let read = match format {
        Text::Plain => None,
        Text::Bytes => scalar::decode_bytes(s).ok().map(|b| Value::Bytes(b.into())),
        Text::Date => scalar::parse_time(&format!("{s}T00:00:00Z")).ok().map(Value::Timestamp),
        Text::Time => scalar::parse_time(s).ok().map(Value::Timestamp),
        Text::Duration => duration::parse(s).map(Value::Duration),
    };
    read.unwrap_or_else(|| s.into())
}
