//! All that a custom resource's schema demands of an object, beyond the types that decoding checks.

use serde_json::Value;

use super::embedded;
use super::expression::Expressions;
use super::keyed::Keyed;
use super::keyword::Rules;
use crate::field::ErrorList;

/// A schema's demands, compiled once.
pub struct Validator {
    keywords: Rules,
    keyed: Keyed,
    embedded: embedded::Places,
    expressions: Option<Expressions>,
}

impl Validator {
    /// Of the root schema of a resource.
    pub fn new(schema: &Value) -> Self {
        Self {
            keywords: Rules::new(schema),
            keyed: Keyed::new(schema),
            embedded: embedded::Places::new(schema),
            expressions: Expressions::new(schema, true),
        }
    }

    /// Of a schema within, without expressions: for its default.
    pub(crate) fn of_default(schema: &Value) -> Self {
        Self {
            expressions: None,
            ..Self::new(schema)
        }
    }

    /// What is wrong with `new`. Where it is as it was in `old`, nothing is: a schema may have become stricter.
    pub fn validate(&self, new: &Value, old: Option<&Value>, errors: &mut ErrorList) {
        self.validate_at(new, old, "", errors);
    }

    pub(crate) fn validate_at(&self, new: &Value, old: Option<&Value>, path: &str, errors: &mut ErrorList) {
        let before = errors.len();
        self.embedded.validate(new, path, errors);
        self.keywords.validate(new, old, path, errors);
        if !old.is_some_and(|old| self.keyed.has_duplicates(old)) {
            self.keyed.validate(new, path, errors);
        }
        // Rules may rely on the shape that the schema demands.
        if errors.len() == before
            && let Some(expressions) = &self.expressions
        {
            expressions.validate(new, old, errors);
        }
    }
}
