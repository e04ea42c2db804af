//! Adding and taking away one finalizer, only of the very object that was looked at.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

pub fn has(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|f| f == finalizer)
}

fn patch(meta: &ObjectMeta, finalizers: &[String]) -> Value {
    json!({"metadata": {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "finalizers": finalizers,
    }})
}

/// The merge patch that adds it.
pub fn adding(meta: &ObjectMeta, finalizer: &str) -> Value {
    let mut all = meta.finalizers.clone().unwrap_or_default();
    all.push(finalizer.to_owned());
    patch(meta, &all)
}

/// The merge patch that takes it away.
pub fn removing(meta: &ObjectMeta, finalizer: &str) -> Value {
    let mut all = meta.finalizers.clone().unwrap_or_default();
    all.retain(|f| f != finalizer);
    patch(meta, &all)
}
