//! Secret: bytes by key, of a type that says which keys there must be.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "Secret", "secrets")
        .fields(&["type"])
        .columns([
            name(),
            text("Type", "What the secret is for."),
            text("Data", "How many keys the secret has."),
            age(),
        ])
        .strategy(Secret)
        .build()
}

struct Secret;

impl Strategy for Secret {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let keys = object.get(&["data"]).and_then(Value::as_object).map_or(0, |m| m.len());
        vec![
            object.name().into(),
            str_of(object, &["type"]),
            keys.into(),
            age_of(object, now),
        ]
    }
}
