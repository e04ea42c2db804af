//! Objects within an object (`x-kubernetes-embedded-resource`) say what they are and have valid metadata.

use serde_json::Value;

use super::expression::push_field;
use super::flag;
use super::tree::Tree;
use crate::field::{Cursor, ErrorList, FieldError, show};
use crate::names;

/// Where such objects are.
pub(super) struct Places(Tree<()>);

impl Places {
    /// The root is an object anyway.
    pub fn new(schema: &Value) -> Self {
        let embedded = |schema: &Value| flag(schema, "x-kubernetes-embedded-resource").then_some(());
        Self(Tree::new(schema, embedded).without_root())
    }

    pub fn validate(&self, value: &Value, path: &str, errors: &mut ErrorList) {
        self.0.visit(value, path, &mut |(), value, path| {
            if value.is_object() {
                resource(value, path, errors);
            }
        });
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
