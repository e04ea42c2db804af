//! Ownership: controller references, and which matching orphans to adopt or owned strangers to release.

use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The owner that controls the object, if any.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .as_ref()?
        .iter()
        .find(|o| o.controller == Some(true))
}

/// A controller reference to `owner`, blocking its foreground deletion.
pub fn controller_reference<K>(owner: &K) -> OwnerReference
where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
{
    let meta = owner.metadata();
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What to do with each candidate of an owner.
#[derive(Debug)]
pub struct Claim<K> {
    /// Owned and matching.
    pub owned: Vec<Arc<K>>,
    /// Matching, without a controller, not terminating: to adopt.
    pub adopt: Vec<Arc<K>>,
    /// Owned but no longer matching: to release.
    pub release: Vec<Arc<K>>,
}

/// Sorts candidates (all objects of the kind in the owner's namespace) by their relation to the owner. A terminating
/// owner adopts nothing.
pub fn claim<K>(
    owner: &ObjectMeta,
    candidates: impl IntoIterator<Item = Arc<K>>,
    matches: impl Fn(&ObjectMeta) -> bool,
) -> Claim<K>
where
    K: Metadata<Ty = ObjectMeta>,
{
    let mut claim = Claim {
        owned: Vec::new(),
        adopt: Vec::new(),
        release: Vec::new(),
    };
    for candidate in candidates {
        let meta = candidate.metadata();
        match controller_of(meta) {
            Some(reference) if Some(&reference.uid) == owner.uid.as_ref() => {
                if matches(meta) {
                    claim.owned.push(candidate);
                } else if owner.deletion_timestamp.is_none() {
                    claim.release.push(candidate);
                }
            }
            Some(_) => {}
            None => {
                let living = owner.deletion_timestamp.is_none() && meta.deletion_timestamp.is_none();
                if living && matches(meta) {
                    claim.adopt.push(candidate);
                }
            }
        }
    }
    claim
}

/// The merge patch that adopts an object: adds the reference, only if the object is still the one seen.
pub fn adopt_patch(reference: &OwnerReference, meta: &ObjectMeta) -> serde_json::Value {
    let mut references = meta.owner_references.clone().unwrap_or_default();
    references.push(reference.clone());
    serde_json::json!({"metadata": {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "ownerReferences": references,
    }})
}

/// The merge patch that releases an object from the owner with this uid.
pub fn release_patch(owner_uid: &str, meta: &ObjectMeta) -> serde_json::Value {
    let mut references = meta.owner_references.clone().unwrap_or_default();
    references.retain(|r| r.uid != owner_uid);
    serde_json::json!({"metadata": {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "ownerReferences": references,
    }})
}
