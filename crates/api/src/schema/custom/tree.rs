//! What a schema says at some of its places: a tree of those places and of the way to them, and nothing else, so that
//! values are walked no further than somebody has something to say.

use std::collections::BTreeMap;

use serde_json::Value;

use super::MOST_DEPTH;
use super::expression::push_field;

pub(super) struct Tree<T> {
    here: Option<T>,
    properties: BTreeMap<String, Tree<T>>,
    values: Option<Box<Tree<T>>>,
    items: Option<Box<Tree<T>>>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self {
            here: None,
            properties: BTreeMap::new(),
            values: None,
            items: None,
        }
    }
}

impl<T> Tree<T> {
    /// With what `says` makes of each schema.
    pub fn new(schema: &Value, says: fn(&Value) -> Option<T>) -> Self {
        Self::at(schema, says, 0).unwrap_or_default()
    }

    /// Leaves out what is said of the value as a whole.
    pub fn without_root(self) -> Self {
        Self { here: None, ..self }
    }

    /// Nothing when nothing is said here or below.
    fn at(schema: &Value, says: fn(&Value) -> Option<T>, depth: usize) -> Option<Self> {
        if depth > MOST_DEPTH {
            return None;
        }
        let below = |s: &Value| Self::at(s, says, depth + 1);
        let schema_at = |key: &str| schema.get(key).filter(|v| v.is_object());
        let found = Self {
            here: says(schema),
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
        let none =
            found.here.is_none() && found.properties.is_empty() && found.values.is_none() && found.items.is_none();
        (!none).then_some(found)
    }

    /// Calls `each` with what is said, the value there and its path, from the outside in.
    pub fn visit(&self, value: &Value, path: &str, each: &mut dyn FnMut(&T, &Value, &str)) {
        if let Some(said) = &self.here {
            each(said, value, path);
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    if let Some(below) = self.properties.get(name) {
                        let mut path = path.to_owned();
                        push_field(&mut path, name);
                        below.visit(value, &path, each);
                    } else if let Some(below) = &self.values {
                        below.visit(value, &format!("{path}[{name}]"), each);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(below) = &self.items {
                    for (i, item) in items.iter().enumerate() {
                        below.visit(item, &format!("{path}[{i}]"), each);
                    }
                }
            }
            _ => {}
        }
    }
}
