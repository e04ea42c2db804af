//! What a custom kind does with its objects: what its schema says.

use std::sync::Arc;

use coracle_api::field::{Cursor, ErrorList};
use coracle_api::object::Object;
use coracle_api::schema::custom::{self, Validator};
use coracle_api::schema::{NodeId, SchemaSet};
use coracle_api::strategy::Strategy;
use coracle_clock::Timestamp;
use serde_json::Value;

use super::columns::{self, PathColumn};

pub(super) struct CustomStrategy {
    schema: Arc<SchemaSet>,
    root: NodeId,
    validator: Option<Validator>,
    columns: Vec<PathColumn>,
}

impl CustomStrategy {
    pub fn new(schema: Arc<SchemaSet>, root: NodeId, source: Option<&Value>, columns: Vec<PathColumn>) -> Self {
        Self {
            schema,
            root,
            validator: source.map(Validator::new),
            columns,
        }
    }
}

impl CustomStrategy {
    fn check(&self, new: &Cursor<'_>, old: Option<&Cursor<'_>>, errors: &mut ErrorList) {
        if let (Some(validator), Some(value)) = (&self.validator, new.value()) {
            validator.validate(value, old.and_then(Cursor::value), errors);
        }
    }
}

impl Strategy for CustomStrategy {
    fn set_defaults(&self, object: &mut Object) {
        let mut value = Value::Object(std::mem::take(&mut object.0));
        custom::apply_defaults(&mut value, self.schema.at(self.root));
        if let Value::Object(map) = value {
            object.0 = map;
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        self.check(object, None, errors);
    }

    fn validate_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.check(new, Some(old), errors);
    }

    fn validate_status_update(&self, new: &Cursor<'_>, old: &Cursor<'_>, errors: &mut ErrorList) {
        self.check(new, Some(old), errors);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        columns::cells(&self.columns, object, now)
    }
}
