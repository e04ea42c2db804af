//! Lists that are sets or maps (`x-kubernetes-list-type`) have no element twice.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::tree::Tree;
use crate::field::{ErrorList, FieldError, FieldErrorKind, show};

/// Where such lists are.
pub(super) struct Keyed(Tree<Kind>);

enum Kind {
    Set,
    /// The keys, with what stands for those that are absent.
    Map(Vec<(String, Option<Value>)>),
}

impl Kind {
    fn of(schema: &Value) -> Option<Self> {
        match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => Some(Self::Set),
            Some("map") => {
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                let default = |key: &str| schema.pointer("/items/properties")?.get(key)?.get("default").cloned();
                let keys = keys.into_iter().flatten().filter_map(Value::as_str);
                Some(Self::Map(keys.map(|k| (k.to_owned(), default(k))).collect()))
            }
            _ => None,
        }
    }

    /// What no other element may have too; nothing for an element that is none.
    fn identity(&self, item: &Value) -> Option<Value> {
        match self {
            Self::Set => Some(item.clone()),
            Self::Map(keys) => {
                let map = item.as_object()?;
                let key = |(name, default): &(String, Option<Value>)| {
                    let found = map.get(name).or(default.as_ref())?;
                    Some((name.clone(), found.clone()))
                };
                Some(Value::Object(keys.iter().filter_map(key).collect::<Map<_, _>>()))
            }
        }
    }
}

impl Keyed {
    pub fn new(schema: &Value) -> Self {
        Self(Tree::new(schema, Kind::of))
    }

    pub fn has_duplicates(&self, value: &Value) -> bool {
        let mut errors = ErrorList::new();
        self.validate(value, "", &mut errors);
        !errors.is_empty()
    }

    pub fn validate(&self, value: &Value, path: &str, errors: &mut ErrorList) {
        self.0.visit(value, path, &mut |kind, value, path| {
            let mut seen = HashSet::new();
            for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                let Some(identity) = kind.identity(item) else { continue };
                if !seen.insert(identity.to_string()) {
                    errors.push(FieldError {
                        kind: FieldErrorKind::Duplicate,
                        path: format!("{path}[{i}]"),
                        value: show(&identity),
                        detail: String::new(),
                    });
                }
            }
        });
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
