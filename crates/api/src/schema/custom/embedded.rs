//! Objects within an object (`x-kubernetes-embedded-resource`) say what they are and have valid metadata.

use std::collections::BTreeMap;

use serde_json::Value;

use super::MOST_DEPTH;
use super::expression::push_field;
use crate::field::{Cursor, ErrorList, FieldError, show};
use crate::names;

/// Where such objects are.
#[derive(Default)]
pub(super) struct Places {
    here: bool,
    properties: BTreeMap<String, Places>,
    values: Option<Box<Places>>,
    items: Option<Box<Places>>,
}

impl Places {
    /// The root is an object anyway.
    pub fn new(schema: &Value) -> Self {
        let mut root = Self::at(schema, 0).unwrap_or_default();
        root.here = false;
        root
    }

    fn at(schema: &Value, depth: usize) -> Option<Self> {
        if depth > MOST_DEPTH {
            return None;
        }
        let below = |s: &Value| Self::at(s, depth + 1);
        let schema_at = |key: &str| schema.get(key).filter(|v| v.is_object());
        let found = Self {
            here: schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)),
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
        let none = !found.here && found.properties.is_empty() && found.values.is_none() && found.items.is_none();
        (!none).then_some(found)
    }

    pub fn validate(&self, value: &Value, path: &str, errors: &mut ErrorList) {
        if self.here && value.is_object() {
            resource(value, path, errors);
        }
        match value {
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
            Value::Array(items) => {
                if let Some(below) = &self.items {
                    for (i, item) in items.iter().enumerate() {
                        below.validate(item, &format!("{path}[{i}]"), errors);
                    }
                }
            }
            _ => {}
        }
    }
}

fn resource(value: &Value, path: &str, errors: &mut ErrorList) {
    let mut found = ErrorList::new();
    {
        let at = Cursor::root(value, None);
        for field in ["apiVersion", "kind"] {
            let at = at.at(field);
            if at.str().is_empty() {
                found.required(&at, "must not be empty");
            }
        }
        let kind = at.at("kind");
        let faults = names::dns1035_label(&kind.str().to_lowercase());
        if !kind.is_empty() && !faults.is_empty() {
            found.invalid(
                &kind,
                format!("may have mixed case, but should otherwise match: {}", faults.join(",")),
            );
        }
        let version = at.at("apiVersion");
        if version.str().matches('/').count() > 1 {
            let text = show(&Value::from(version.str()));
            found.invalid(
                &version,
                format!("unexpected GroupVersion string: {}", text.trim_matches('"')),
            );
        }
        let metadata = at.at("metadata");
        for (field, is_prefix) in [("name", false), ("generateName", true)] {
            let name = metadata.at(field);
            if !name.is_empty() {
                let faults = names::object_name(crate::strategy::NameRule::PathSegment, name.str(), is_prefix);
                found.faults(&name, faults);
            }
        }
        names::labels(&metadata.at("labels"), &mut found);
        names::annotations(&metadata.at("annotations"), &mut found);
    }
    for error in found.into_vec() {
        let mut whole = path.to_owned();
        push_field(&mut whole, &error.path);
        errors.push(FieldError { path: whole, ..error });
    }
}
