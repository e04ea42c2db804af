//! A default is a value of its own schema: nothing in it is pruned or refused.

use serde_json::{Value, json};

use super::Faults;
use super::schema::{map, schema_at};
use crate::field::{ErrorList, FieldError};
use crate::schema::custom::{MOST_DEPTH, Validator, from_schema};
use crate::schema::decode::{Mode, decode};

/// The defaults of a structural schema. Upstream does not look at those of a map's values.
pub(super) fn validate(root: &Value, path: &str, faults: &mut Faults<'_>) {
    node(root, path, 0, faults);
}

fn node(schema: &Value, path: &str, depth: usize, faults: &mut Faults<'_>) {
    if depth > MOST_DEPTH {
        return;
    }
    one(schema, path, faults);
    if let Some(items) = schema_at(schema, "items") {
        node(items, &format!("{path}.items"), depth + 1, faults);
    }
    for (name, property) in map(schema, "properties") {
        node(property, &format!("{path}.properties[{name}]"), depth + 1, faults);
    }
}

fn one(schema: &Value, path: &str, faults: &mut Faults<'_>) {
    let Some(default) = schema.get("default").filter(|d| !d.is_null()) else {
        return;
    };
    let at = format!("{path}.default");
    let wrapped = json!({"type": "object", "properties": {"default": schema}});
    let (set, root) = from_schema(Some(&wrapped));
    let mut value = json!({"default": default});
    match decode(&mut value, set.at(root), Mode::Whole) {
        Err(errors) => {
            for error in errors {
                let error = error.field_error();
                let inner = error.path.strip_prefix("default").unwrap_or_default();
                let detail = error.detail.replacen(&error.path, &format!("{at}{inner}"), 1);
                faults.errors.push(FieldError {
                    path: format!("{at}{inner}"),
                    detail,
                    ..error
                });
            }
            return;
        }
        Ok(decoded) if !decoded.unknown.is_empty() => faults.invalid(&at, default, "must not have unknown fields"),
        Ok(_) => {}
    }
    let mut found = ErrorList::new();
    Validator::of_default(schema).validate_at(default, None, &at, &mut found);
    for error in found.into_vec() {
        faults.errors.push(error);
    }
}
