//! Lists that are sets or maps (`x-kubernetes-list-type`) have no element twice.

use std::collections::BTreeMap;
use std::collections::HashSet;

use serde_json::{Map, Value};

use super::MOST_DEPTH;
use super::expression::push_field;
use crate::field::{ErrorList, FieldError, FieldErrorKind, show};

/// Where such lists are.
#[derive(Default)]
pub(super) struct Keyed {
    list: Kind,
    properties: BTreeMap<String, Keyed>,
    values: Option<Box<Keyed>>,
    items: Option<Box<Keyed>>,
}

#[derive(Default)]
enum Kind {
    #[default]
    Atomic,
    Set,
    /// The keys, with what stands for those that are absent.
    Map(Vec<(String, Option<Value>)>),
}

impl Keyed {
    pub fn new(schema: &Value) -> Self {
        Self::at(schema, 0).unwrap_or_default()
    }

    /// Nothing when there is no such list here or below.
    fn at(schema: &Value, depth: usize) -> Option<Self> {
        if depth > MOST_DEPTH {
            return None;
        }
        let below = |s: &Value| Self::at(s, depth + 1);
        let schema_at = |key: &str| schema.get(key).filter(|v| v.is_object());
        let list = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => Kind::Set,
            Some("map") => {
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                let default = |key: &str| schema.pointer("/items/properties")?.get(key)?.get("default").cloned();
                let keys = keys.into_iter().flatten().filter_map(Value::as_str);
                Kind::Map(keys.map(|k| (k.to_owned(), default(k))).collect())
            }
            _ => Kind::Atomic,
        };
        let found = Self {
            list,
            properties: schema
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .filter_map(|(name, s)| Some((name.clone(), below(s)?)))
                .collect(),
            values: schema_at("additionalProperties").and_then(below).map(Box::new),
            items: schema_at("items").and_then(below).map(Box::new),
        };
        let none = matches!(found.list, Kind::Atomic)
            && found.properties.is_empty()
            && found.values.is_none()
            && found.items.is_none();
        (!none).then_some(found)
    }

    pub fn has_duplicates(&self, value: &Value) -> bool {
        let mut errors = ErrorList::new();
        self.validate(value, "", &mut errors);
        !errors.is_empty()
    }

    pub fn validate(&self, value: &Value, path: &str, errors: &mut ErrorList) {
        match value {
            Value::Array(items) => {
                self.elements(items, path, errors);
                if let Some(below) = &self.items {
                    for (i, item) in items.iter().enumerate() {
                        below.validate(item, &format!("{path}[{i}]"), errors);
                    }
                }
            }
            Value::Object(map) => {
                for (name, value) in map {
                    if let Some(below) = self.properties.get(name) {
                        let mut path = path.to_owned();
                        push_field(&mut path, name);
                        below.validate(value, &path, errors);
                    } else if let Some(below) = &self.values {
                        below.validate(value, &format!("{path}[{name}]"), errors);
                    }
                }
            }
            _ => {}
        }
    }

    fn elements(&self, items: &[Value], path: &str, errors: &mut ErrorList) {
        let mut seen = HashSet::new();
        for (i, item) in items.iter().enumerate() {
            let identity = match &self.list {
                Kind::Atomic => return,
                Kind::Set => item.clone(),
                Kind::Map(keys) => {
                    let Value::Object(map) = item else { continue };
                    let key = |(name, default): &(String, Option<Value>)| {
                        let found = map.get(name).or(default.as_ref())?;
                        Some((name.clone(), found.clone()))
                    };
                    Value::Object(keys.iter().filter_map(key).collect::<Map<_, _>>())
                }
            };
            if !seen.insert(identity.to_string()) {
                errors.push(FieldError {
                    kind: FieldErrorKind::Duplicate,
                    path: format!("{path}[{i}]"),
                    value: show(&identity),
                    detail: String::new(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_element_of_a_set_or_map_is_there_twice() {
        let schema = json!({"properties": {
            "set": {"x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"], "items": {
                "properties": {"protocol": {"default": "TCP"}}}}}});
        let value = json!({"set": ["a", "b", "a"], "map": [
            {"port": 1}, {"port": 1, "protocol": "UDP"}, {"port": 1, "protocol": "TCP"}]});
        let mut errors = ErrorList::new();
        Keyed::new(&schema).validate(&value, "", &mut errors);
        let errors: Vec<String> = errors.as_slice().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "map[2]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\"}",
                "set[2]: Duplicate value: \"a\"",
            ]
        );
    }
}
