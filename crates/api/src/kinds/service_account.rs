//! ServiceAccount: who a pod is to the API.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::{Resource, Verbs};
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "ServiceAccount", "serviceaccounts")
        .short(&["sa"])
        .subresource_of("token", Verbs::CREATE, ("authentication.k8s.io", "v1", "TokenRequest"))
        .columns([name(), age()])
        .strategy(ServiceAccount)
        .build()
}

struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), age_of(object, now)]
    }
}
