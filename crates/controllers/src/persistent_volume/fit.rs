//! Whether a volume suits a claim, and which of many suits it best. Pure.

use std::sync::Arc;

use coracle_api::quantity::Quantity;
use coracle_api::selector::LabelSelector;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::annotation::{self, BETA_STORAGE_CLASS};

/// The class that a claim asks for; `None` if it says nothing, which is not the same as asking for none.
pub fn class_said(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation::get(&claim.metadata, BETA_STORAGE_CLASS)
        .or_else(|| claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()))
}

pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    class_said(claim).unwrap_or_default()
}

pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    annotation::get(&volume.metadata, BETA_STORAGE_CLASS)
        .or_else(|| volume.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()))
        .unwrap_or_default()
}

/// Whether an administrator has said that claims without a class get this one.
pub fn is_default(class: &StorageClass) -> bool {
    [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ]
    .into_iter()
    .any(|key| annotation::get(&class.metadata, key) == Some("true"))
}

/// Of several defaults the newest; of those of one second the first by name.
pub fn default_class(defaults: &[Arc<StorageClass>]) -> Option<&str> {
    let newest = defaults.iter().min_by_key(|c| {
        let made = c.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (std::cmp::Reverse(made), c.metadata.name.clone())
    })?;
    newest.metadata.name.as_deref()
}

pub fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    let capacity = volume.spec.as_ref()?.capacity.as_ref()?;
    capacity.get("storage")?.0.parse().ok()
}

pub fn request(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    resources.requests.as_ref()?.get("storage")?.0.parse().ok()
}

/// Whether a bound claim asks for more than it has.
pub fn wants_more(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let bound = status.and_then(|s| s.phase.as_deref()) == Some("Bound");
    let has = status.and_then(|s| s.capacity.as_ref()?.get("storage"));
    let has: Option<Quantity> = has.and_then(|q| q.0.parse().ok());
    bound && has.is_some() && request(claim) > has
}

/// The UID may still be missing on the volume's side: a user reserved it by the claim's name.
pub fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else {
        return false;
    };
    let uid = reference.uid.as_deref().unwrap_or_default();
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
}

fn mode(mode: Option<&str>) -> &str {
    mode.filter(|m| !m.is_empty()).unwrap_or("Filesystem")
}

pub fn modes_agree(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let volume = volume.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    let claim = claim.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    mode(volume) == mode(claim)
}

fn attributes_agree(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let volume = volume
        .spec
        .as_ref()
        .and_then(|s| s.volume_attributes_class_name.as_deref());
    let claim = claim
        .spec
        .as_ref()
        .and_then(|s| s.volume_attributes_class_name.as_deref());
    volume.unwrap_or_default() == claim.unwrap_or_default()
}

/// The volume can be accessed in every way that the claim wants.
fn access_agrees(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let offered = volume.spec.as_ref().and_then(|s| s.access_modes.as_deref());
    let wanted = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref());
    let offered = offered.unwrap_or_default();
    wanted.unwrap_or_default().iter().all(|mode| offered.contains(mode))
}

/// Why a claim cannot have the volume that it asks for by name.
pub fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    if capacity(volume) < request(claim) {
        return Some("requested PV is too small");
    }
    if class_of_volume(volume) != class_of_claim(claim) {
        return Some("storageClassName does not match");
    }
    if !attributes_agree(volume, claim) {
        return Some("volumeAttributesClassName does not match");
    }
    if !modes_agree(volume, claim) {
        return Some("incompatible volumeMode");
    }
    if !access_agrees(volume, claim) {
        return Some("incompatible accessMode");
    }
    None
}

/// The volume for a claim that names none: one reserved for it, or else the smallest free one that suits, of those that
/// can be accessed in the fewest other ways. While the binding is delayed only a reserved one counts: where the pod will
/// run decides about the others.
pub fn best<'a>(
    volumes: &'a [Arc<PersistentVolume>],
    claim: &PersistentVolumeClaim,
    delayed: bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let usable = |volume: &&Arc<PersistentVolume>| {
        capacity(volume) >= request(claim)
            && modes_agree(volume, claim)
            && attributes_agree(volume, claim)
            && volume.metadata.deletion_timestamp.is_none()
            && access_agrees(volume, claim)
    };
    let order = |volume: &&Arc<PersistentVolume>| {
        let modes = volume.spec.as_ref().and_then(|s| s.access_modes.as_ref());
        (
            modes.map_or(0, Vec::len),
            capacity(volume).unwrap_or_default(),
            volume.metadata.name.clone(),
        )
    };
    let reserved = volumes.iter().filter(|v| is_bound_to(v, claim)).filter(usable);
    if let Some(volume) = reserved.min_by_key(order) {
        return Some(volume);
    }
    if delayed {
        return None;
    }
    let selector = claim.spec.as_ref().and_then(|s| s.selector.as_ref());
    let selector = match selector {
        None => LabelSelector::everything(),
        // One that cannot be read selects nothing.
        Some(_) => LabelSelector::from_typed(selector).unwrap_or_else(|_| LabelSelector::nothing()),
    };
    let free = |volume: &&Arc<PersistentVolume>| {
        let unclaimed = volume.spec.as_ref().is_none_or(|s| s.claim_ref.is_none());
        let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
        let labels = volume.metadata.labels.as_ref();
        unclaimed
            && phase == Some("Available")
            && class_of_volume(volume) == class_of_claim(claim)
            && selector.matches(|key| labels?.get(key).map(String::as_str))
    };
    volumes.iter().filter(free).filter(usable).min_by_key(order)
}
