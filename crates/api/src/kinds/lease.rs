//! Lease: who holds something, until when.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, str_of, text};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("coordination.k8s.io", "v1", "Lease", "leases")
        .create_on_update()
        .conditional_update()
        .columns([name(), text("Holder", "Who holds the lease."), age()])
        .strategy(Lease)
        .build()
}

struct Lease;

impl Strategy for Lease {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            str_of(object, &["spec", "holderIdentity"]),
            age_of(object, now),
        ]
    }
}
