//! What goes for every schema of a definition, wherever it stands, and the order in which all rules of schemas are told.

use serde_json::Value;

use super::{Faults, default, list_type, rule, structural};
use crate::field::{ErrorList, FieldError};
use crate::schema::custom::MOST_DEPTH;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// What every object has, whatever its schema says.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// The whole schema of a version.
pub(super) fn validate(root: &Value, path: &str, faults: &mut Faults<'_>) {
    if flag(root, "nullable") {
        faults.forbidden(&format!("{path}.nullable"), "nullable cannot be true at the root");
    }
    let before = faults.errors.len();
    let unsupported = is_unsupported(root, 0);
    if !unsupported {
        let mut found = ErrorList::new();
        structural::validate(root, path, &mut Faults { errors: &mut found });
        let mut found = found.into_vec();
        found.sort_by_cached_key(FieldError::to_string);
        if found.is_empty() {
            default::validate(root, path, faults);
        }
        for error in found {
            faults.errors.push(error);
        }
    }
    node(root, path, &Place::default(), faults);
    if unsupported && faults.errors.len() == before {
        let detail = "OpenAPIV3Schema 'schema' is not supported";
        faults.invalid(path, &"".into(), detail);
    }
}

pub(super) fn text<'s>(schema: &'s Value, key: &str) -> &'s str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

pub(super) fn list<'s>(schema: &'s Value, key: &str) -> &'s [Value] {
    schema.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn map<'s>(schema: &'s Value, key: &str) -> impl Iterator<Item = (&'s String, &'s Value)> {
    schema.get(key).and_then(Value::as_object).into_iter().flatten()
}

pub(super) fn is_set(schema: &Value, key: &str) -> bool {
    schema.get(key).is_some_and(|v| !v.is_null())
}

/// The schema under a key, if there is one.
pub(super) fn schema_at<'s>(schema: &'s Value, key: &str) -> Option<&'s Value> {
    schema.get(key).filter(|v| v.is_object())
}

/// How a schema follows from the one above.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step<'s> {
    Property(&'s str),
    Values,
    Other,
}

/// The schemas right below one, with their paths from there.
fn below(schema: &Value) -> Vec<(Step<'_>, String, &Value)> {
    let one = |key: &'static str, step| schema_at(schema, key).map(|found| (step, key.to_owned(), found));
    let many = |key: &'static str| {
        let all = list(schema, key).iter().enumerate();
        all.map(move |(i, found)| (Step::Other, format!("{key}[{i}]"), found))
    };
    let mut found: Vec<_> = one("additionalProperties", Step::Values).into_iter().collect();
    found.extend(
        map(schema, "properties").map(|(name, found)| (Step::Property(name), format!("properties[{name}]"), found)),
    );
    found.extend(one("not", Step::Other));
    found.extend(many("allOf").chain(many("oneOf")).chain(many("anyOf")));
    found.extend(one("items", Step::Other));
    found
}

/// Whether something is said that structural schemas have no place for.
fn is_unsupported(schema: &Value, depth: usize) -> bool {
    let here = ["id", "$schema", "$ref"]
        .iter()
        .any(|key| !text(schema, key).is_empty())
        || ["patternProperties", "dependencies", "definitions"]
            .iter()
            .any(|key| map(schema, key).next().is_some())
        || is_set(schema, "additionalItems")
        || !list(schema, "items").is_empty()
        || schema.get("x-kubernetes-preserve-unknown-fields") == Some(&false.into());
    here || (depth < MOST_DEPTH
        && below(schema)
            .iter()
            .any(|(_, _, found)| is_unsupported(found, depth + 1)))
}

/// Where a schema stands.
#[derive(Default)]
struct Place {
    depth: usize,
    /// It says what metadata is.
    in_meta: bool,
    /// Why there may be no default.
    no_default: Option<String>,
}

fn node(schema: &Value, path: &str, place: &Place, faults: &mut Faults<'_>) {
    if place.depth > MOST_DEPTH {
        faults.forbidden(path, format!("must not be nested deeper than {MOST_DEPTH} levels"));
        return;
    }
    plain(schema, path, place, faults);
    let is_root = place.depth == 0;
    for (step, key, found) in below(schema) {
        let mut next = Place {
            depth: place.depth + 1,
            in_meta: place.in_meta,
            no_default: place.no_default.clone(),
        };
        match step {
            Step::Values if place.in_meta => {
                next.no_default = Some("inside additionalProperties applying to object metadata".to_owned());
            }
            Step::Property(name)
                if META.contains(&name) && (is_root || flag(schema, "x-kubernetes-embedded-resource")) =>
            {
                next.in_meta = true;
                if is_root {
                    next.no_default = Some(format!("in top-level {name}"));
                }
            }
            _ => {}
        }
        node(found, &format!("{path}.{key}"), &next, faults);
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&false.into()) {
        let at = format!("{path}.x-kubernetes-preserve-unknown-fields");
        faults.invalid(&at, &false.into(), "must be true or undefined");
    }
    list_type::validate(schema, path, faults);
    rule::validate(schema, path, faults);
}

fn plain(schema: &Value, path: &str, place: &Place, faults: &mut Faults<'_>) {
    let at = |field: &str| format!("{path}.{field}");
    let kind = text(schema, "type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        faults.not_supported(&at("type"), &kind.into(), &TYPES);
    }
    if let Some(why) = &place.no_default
        && is_set(schema, "default")
    {
        faults.forbidden(&at("default"), format!("must not be set {why}"));
    }
    let some = |key: &str| map(schema, key).next().is_some();
    for (field, is_said) in [
        ("id", !text(schema, "id").is_empty()),
        ("additionalItems", is_set(schema, "additionalItems")),
        ("patternProperties", some("patternProperties")),
        ("definitions", some("definitions")),
        ("dependencies", is_set(schema, "dependencies")),
        ("$ref", is_set(schema, "$ref")),
    ] {
        if is_said {
            faults.forbidden(&at(field), format!("{field} is not supported"));
        }
    }
    if kind == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        faults.forbidden(&at("type"), detail);
    }
    if !list(schema, "items").is_empty() {
        faults.forbidden(&at("items"), "items must be a schema object and not an array");
    }
    let embedded = "x-kubernetes-embedded-resource";
    if place.in_meta && flag(schema, embedded) {
        faults.forbidden(&at(embedded), "must not be used inside of resource meta");
    }
    if flag(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        faults.forbidden(&at("uniqueItems"), detail);
    }
    let values = schema.get("additionalProperties").filter(|v| !v.is_null());
    if values.is_some_and(|values| *values != true) && some("properties") {
        let detail = "additionalProperties and properties are mutual exclusive";
        faults.forbidden(&at("additionalProperties"), detail);
    }
}
