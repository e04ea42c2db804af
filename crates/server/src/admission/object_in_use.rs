//! StorageObjectInUseProtection: volumes, claims and attribute classes are not gone while something uses them: each
//! begins with a finalizer, which its protection controller takes away.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;
use serde_json::Value;

use super::{Admission, Attributes, Operation};

pub(super) struct StorageObjectInUseProtection;

fn finalizer(attributes: &Attributes<'_>) -> Option<&'static str> {
    match (attributes.row.group.as_ref(), attributes.row.plural.as_ref()) {
        ("", "persistentvolumeclaims") => Some("kubernetes.io/pvc-protection"),
        ("", "persistentvolumes") => Some("kubernetes.io/pv-protection"),
        ("storage.k8s.io", "volumeattributesclasses") => Some("kubernetes.io/vac-protection"),
        _ => None,
    }
}

#[async_trait]
impl Admission for StorageObjectInUseProtection {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create
            && attributes.target.subresource.is_empty()
            && finalizer(attributes).is_some()
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Object) -> Result<bool, Status> {
        let Some(finalizer) = finalizer(attributes) else {
            return Ok(false);
        };
        let mut all = object.array(&["metadata", "finalizers"]).to_vec();
        if all.iter().any(|f| f.as_str() == Some(finalizer)) {
            return Ok(false);
        }
        all.push(Value::from(finalizer));
        object.set(&["metadata", "finalizers"], all);
        Ok(true)
    }
}
