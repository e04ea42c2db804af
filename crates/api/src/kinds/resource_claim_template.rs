//! ResourceClaimTemplate: a claim to copy for each pod.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced(
        "resource.k8s.io",
        "v1",
        "ResourceClaimTemplate",
        "resourceclaimtemplates",
    )
    .columns([name(), age()])
    .strategy(ResourceClaimTemplate)
    .build()
}

struct ResourceClaimTemplate;

impl Strategy for ResourceClaimTemplate {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), age_of(object, now)]
    }
}
