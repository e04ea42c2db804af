//! The validation keywords of a custom resource's schema: bounds, patterns, enumerations, required fields, and how
//! schemas combine. Types have been checked when the object was decoded.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::MOST_DEPTH;
use super::expression::predecessor;
use crate::field::{ErrorList, FieldError, FieldErrorKind, show};
use crate::schema::formats;

/// One schema's rules, compiled.
#[derive(Default)]
pub(super) struct Rules {
    required: Vec<String>,
    properties: BTreeMap<String, Rules>,
    values: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
    choices: Vec<Value>,
    pattern: Option<(String, Regex)>,
    format: String,
    minimum: Option<(f64, bool)>,
    maximum: Option<(f64, bool)>,
    multiple: Option<f64>,
    length: (Option<u64>, Option<u64>),
    count: (Option<u64>, Option<u64>),
    members: (Option<u64>, Option<u64>),
    unique: bool,
    /// Only in what combines schemas is a type a rule; elsewhere it has been checked.
    kind: String,
    all: Vec<Rules>,
    any: Vec<Rules>,
    one: Vec<Rules>,
    not: Option<Box<Rules>>,
    nullable: bool,
    /// What an object's fields were can be told, unless it is atomic.
    correlates: bool,
    /// What the elements of a keyed list are found by.
    keys: Vec<String>,
}

impl Rules {
    pub fn new(schema: &Value) -> Self {
        Self::at(schema, 0)
    }

    fn at(schema: &Value, depth: usize) -> Self {
        if depth > MOST_DEPTH {
            return Self::default();
        }
        let below = |v: &Value| Self::at(v, depth + 1);
        let many = |key: &str| -> Vec<Self> {
            schema
                .get(key)
                .and_then(Value::as_array)
                .map_or(&[][..], Vec::as_slice)
                .iter()
                .map(below)
                .collect()
        };
        let whole = |key: &str| schema.get(key).and_then(Value::as_u64);
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
        let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let strings = |v: Option<&Value>| -> Vec<String> {
            v.and_then(Value::as_array)
                .map_or(&[][..], Vec::as_slice)
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        let pattern = schema.get("pattern").and_then(Value::as_str);
        Self {
            required: strings(schema.get("required")),
            properties: schema
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .map(|(k, v)| (k.clone(), below(v)))
                .collect(),
            values: schema
                .get("additionalProperties")
                .filter(|v| v.is_object())
                .map(|v| Box::new(below(v))),
            items: schema
                .get("items")
                .filter(|v| v.is_object())
                .map(|v| Box::new(below(v))),
            choices: schema
                .get("enum")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
            pattern: pattern.and_then(|p| Some((p.to_owned(), Regex::new(p).ok()?))),
            format: text("format"),
            minimum: number("minimum").map(|m| (m, flag("exclusiveMinimum"))),
            maximum: number("maximum").map(|m| (m, flag("exclusiveMaximum"))),
            multiple: number("multipleOf").filter(|m| *m > 0.0),
            length: (whole("minLength"), whole("maxLength")),
            count: (whole("minItems"), whole("maxItems")),
            members: (whole("minProperties"), whole("maxProperties")),
            unique: flag("uniqueItems"),
            kind: text("type"),
            all: many("allOf"),
            any: many("anyOf"),
            one: many("oneOf"),
            not: schema.get("not").filter(|v| v.is_object()).map(|v| Box::new(below(v))),
            nullable: flag("nullable"),
            correlates: text("x-kubernetes-map-type") != "atomic",
            keys: if text("x-kubernetes-list-type") == "map" {
                strings(schema.get("x-kubernetes-list-map-keys"))
            } else {
                Vec::new()
            },
        }
    }

    /// What is wrong with a value at `path`. Where it is as it was in `old`, nothing is.
    pub fn validate(&self, value: &Value, old: Option<&Value>, path: &str, errors: &mut ErrorList) {
        self.check(value, old, path, errors);
    }

    fn accepts(&self, value: &Value) -> bool {
        let mut errors = ErrorList::new();
        if !self.is_of_type(value) {
            return false;
        }
        self.check(value, None, "", &mut errors);
        errors.is_empty()
    }

    fn is_of_type(&self, value: &Value) -> bool {
        match (self.kind.as_str(), value) {
            ("", _) | ("string", Value::String(_)) | ("boolean", Value::Bool(_)) | ("object", Value::Object(_)) => true,
            ("array", Value::Array(_)) | ("number", Value::Number(_)) => true,
            ("integer", Value::Number(n)) => !n.is_f64(),
            (_, Value::Null) => self.nullable,
            _ => false,
        }
    }

    fn check(&self, value: &Value, old: Option<&Value>, path: &str, errors: &mut ErrorList) {
        if (value.is_null() && self.nullable) || old == Some(value) {
            return;
        }
        let mut invalid = |detail: String| {
            let detail = format!("{path} in body {detail}");
            errors.push(FieldError {
                kind: FieldErrorKind::Invalid,
                path: path.to_owned(),
                value: show(value),
                detail: detail.trim_start().to_owned(),
            });
        };
        match value {
            Value::String(text) => self.check_string(text, &mut invalid),
            Value::Number(number) => self.check_number(number.as_f64().unwrap_or(0.0), &mut invalid),
            Value::Array(items) => {
                let count = items.len() as u64;
                if let Some(least) = self.count.0.filter(|l| count < *l) {
                    invalid(format!("should have at least {least} items"));
                }
                if let Some(most) = self.count.1.filter(|m| count > *m) {
                    errors.push(FieldError {
                        kind: FieldErrorKind::TooMany,
                        path: path.to_owned(),
                        value: count.to_string(),
                        detail: format!("must have at most {most} items"),
                    });
                }
                if self.unique {
                    for (i, item) in items.iter().enumerate() {
                        if items.iter().take(i).any(|other| other == item) {
                            errors.push(FieldError {
                                kind: FieldErrorKind::Duplicate,
                                path: format!("{path}[{i}]"),
                                value: show(item),
                                detail: String::new(),
                            });
                        }
                    }
                }
                if let Some(rules) = &self.items {
                    for (i, item) in items.iter().enumerate() {
                        let before = predecessor(item, &self.keys, old);
                        rules.check(item, before, &format!("{path}[{i}]"), errors);
                    }
                }
            }
            Value::Object(map) => {
                let count = map.len() as u64;
                if let Some(least) = self.members.0.filter(|l| count < *l) {
                    invalid(format!("should have at least {least} properties"));
                }
                if let Some(most) = self.members.1.filter(|m| count > *m) {
                    invalid(format!("should have at most {most} properties"));
                }
                let at = |name: &str| {
                    if path.is_empty() {
                        name.to_owned()
                    } else {
                        format!("{path}.{name}")
                    }
                };
                for name in self.required.iter().filter(|name| !map.contains_key(*name)) {
                    errors.push(FieldError {
                        kind: FieldErrorKind::Required,
                        path: at(name),
                        value: String::new(),
                        detail: String::new(),
                    });
                }
                for (name, member) in map {
                    if let Some(rules) = self.properties.get(name).or(self.values.as_deref()) {
                        let before = old.filter(|_| self.correlates).and_then(|o| o.get(name));
                        rules.check(member, before, &at(name), errors);
                    }
                }
            }
            Value::Bool(_) | Value::Null => {}
        }
        self.check_choices(value, path, errors);
        self.check_combined(value, path, errors);
    }

    fn check_string(&self, text: &str, invalid: &mut impl FnMut(String)) {
        let length = text.chars().count() as u64;
        if let Some(least) = self.length.0.filter(|l| length < *l) {
            invalid(format!("should be at least {least} chars long"));
        }
        if let Some(most) = self.length.1.filter(|m| length > *m) {
            invalid(format!("should be at most {most} chars long"));
        }
        if let Some((source, regex)) = &self.pattern
            && !regex.is_match(text)
        {
            invalid(format!("should match '{source}'"));
        }
        if !self.format.is_empty() && !formats::is_well_formed(&self.format, text) {
            invalid(format!("must be of type {}: {text:?}", self.format));
        }
    }

    fn check_number(&self, number: f64, invalid: &mut impl FnMut(String)) {
        if let Some((bound, exclusive)) = self.minimum
            && (number < bound || (exclusive && number == bound))
        {
            invalid(format!(
                "should be greater than {}{bound}",
                if exclusive { "" } else { "or equal to " }
            ));
        }
        if let Some((bound, exclusive)) = self.maximum
            && (number > bound || (exclusive && number == bound))
        {
            invalid(format!(
                "should be less than {}{bound}",
                if exclusive { "" } else { "or equal to " }
            ));
        }
        if let Some(of) = self.multiple
            && (number / of).fract().abs() > f64::EPSILON
        {
            invalid(format!("should be a multiple of {of}"));
        }
    }

    fn check_choices(&self, value: &Value, path: &str, errors: &mut ErrorList) {
        if !self.choices.is_empty() && !self.choices.contains(value) {
            let supported: Vec<String> = self.choices.iter().map(show).collect();
            errors.push(FieldError {
                kind: FieldErrorKind::NotSupported,
                path: path.to_owned(),
                value: show(value),
                detail: format!("supported values: {}", supported.join(", ")),
            });
        }
    }

    fn check_combined(&self, value: &Value, path: &str, errors: &mut ErrorList) {
        for rules in &self.all {
            rules.check(value, None, path, errors);
        }
        let mut invalid = |detail: &str| {
            errors.push(FieldError {
                kind: FieldErrorKind::Invalid,
                path: path.to_owned(),
                value: show(value),
                detail: format!("{path:?} {detail}"),
            });
        };
        if !self.any.is_empty() && !self.any.iter().any(|r| r.accepts(value)) {
            invalid("must validate at least one schema (anyOf)");
        }
        if !self.one.is_empty() && self.one.iter().filter(|r| r.accepts(value)).count() != 1 {
            invalid("must validate one and only one schema (oneOf)");
        }
        if self.not.as_ref().is_some_and(|r| r.accepts(value)) {
            invalid("must not validate the schema (not)");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors(schema: Value, value: Value) -> Vec<String> {
        let mut errors = ErrorList::new();
        Rules::new(&schema).validate(&value, None, "", &mut errors);
        errors.as_slice().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_keyword_says_what_is_wrong_in_upstreams_words() {
        let of = |rules: Value| json!({"type": "object", "properties": {"a": rules}});
        for (rules, value, expected) in [
            (
                json!({"minimum": 1}),
                json!(0),
                "a: Invalid value: 0: a in body should be greater than or equal to 1",
            ),
            (
                json!({"maximum": 3}),
                json!(4),
                "a: Invalid value: 4: a in body should be less than or equal to 3",
            ),
            (
                json!({"pattern": "^x+$"}),
                json!("y"),
                "a: Invalid value: \"y\": a in body should match '^x+$'",
            ),
            (
                json!({"minLength": 2}),
                json!("y"),
                "a: Invalid value: \"y\": a in body should be at least 2 chars long",
            ),
            (
                json!({"enum": ["x", "z"]}),
                json!("y"),
                "a: Unsupported value: \"y\": supported values: \"x\", \"z\"",
            ),
            (
                json!({"minItems": 1}),
                json!([]),
                "a: Invalid value: []: a in body should have at least 1 items",
            ),
            (
                json!({"not": {"enum": [1]}}),
                json!(1),
                "a: Invalid value: 1: \"a\" must not validate the schema (not)",
            ),
        ] {
            assert_eq!(errors(of(rules), json!({"a": value})), [expected]);
        }
        assert_eq!(errors(json!({"required": ["b"]}), json!({})), ["b: Required value"]);
        assert!(errors(of(json!({"minimum": 1})), json!({"a": 1})).is_empty());
        let either = json!({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 1}]});
        assert!(errors(of(either.clone()), json!({"a": 5})).is_empty());
        assert_eq!(errors(of(either), json!({"a": "long"})).len(), 1);
    }

    #[test]
    fn what_is_as_it_was_is_let_pass() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {
                "type": "object", "properties": {"n": {"type": "string"}, "v": {"type": "integer", "maximum": 1}}}}}});
        let old = json!({"a": "long", "b": "long", "list": [{"n": "x", "v": 5}, {"n": "y", "v": 5}]});
        let new = json!({"a": "long", "b": "other", "list": [{"n": "y", "v": 6}, {"n": "x", "v": 5}]});
        let mut errors = ErrorList::new();
        Rules::new(&schema).validate(&new, Some(&old), "", &mut errors);
        let errors: Vec<String> = errors.as_slice().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "b: Invalid value: \"other\": b in body should be at most 1 chars long",
                "list[0].v: Invalid value: 6: list[0].v in body should be less than or equal to 1",
            ]
        );
    }
}
