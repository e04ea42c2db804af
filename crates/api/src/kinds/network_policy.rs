//! NetworkPolicy: which traffic may reach or leave a set of pods.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, format_selector, name, text};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
        .short(&["netpol"])
        .generation()
        .columns([
            name(),
            text("Pod-Selector", "The labels of the pods that the policy is for."),
            age(),
        ])
        .strategy(NetworkPolicy)
        .build()
}

struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            format_selector(object.get(&["spec", "podSelector"])).into(),
            age_of(object, now),
        ]
    }
}
