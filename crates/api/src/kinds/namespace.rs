//! Namespace: a scope for names. It is deleted in two steps: emptied by its controller, then gone when its own
//! finalizers (`spec.finalizers`) are.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::row::cluster;
use crate::object::Object;
use crate::resource::{Resource, Verbs};
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    cluster("", "v1", "Namespace", "namespaces")
        .short(&["ns"])
        .verbs(Verbs::ALL.without(Verbs::DELETE_COLLECTION))
        .subresource("finalize", Verbs::UPDATE)
        .status()
        .fields(&["status.phase"])
        .columns([name(), text("Status", "The status of the namespace"), age()])
        .strategy(Namespace)
        .build()
}

struct Namespace;

impl Strategy for Namespace {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            str_of(object, &["status", "phase"]),
            age_of(object, now),
        ]
    }
}
