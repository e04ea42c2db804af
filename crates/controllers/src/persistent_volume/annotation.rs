//! The annotations by which binder, scheduler and provisioners speak of claims and volumes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// On a claim: it was bound once; another volume must not be looked for.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or a volume: the binder wrote its half of the binding, not a user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: who made it, and will unmake it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: who is to make a volume for it.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
pub const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// On a claim: where the scheduler wants its first pod.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim or a volume: the class, before there was a field for it.
pub const BETA_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub fn get<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

pub fn has(meta: &ObjectMeta, key: &str) -> bool {
    get(meta, key).is_some()
}

/// Sets it; whether that changed anything.
pub fn set(meta: &mut ObjectMeta, key: &str, value: &str) -> bool {
    let old = meta
        .annotations
        .get_or_insert_default()
        .insert(key.to_owned(), value.to_owned());
    old.as_deref() != Some(value)
}
