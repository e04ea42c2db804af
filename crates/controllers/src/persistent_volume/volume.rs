//! What a volume needs next. Pure.

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};

use super::annotation::{self, BOUND_BY_CONTROLLER, PROVISIONED_BY};
use super::{Notice, fit};

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Phase(&'static str),
    /// Take the volume's half of a binding back.
    Unbind,
    /// The claim is gone: Released, and then Failed if the reclaim policy cannot be carried out.
    Release(Option<Notice>),
    /// They can never be bound.
    Mismatch {
        on_volume: Notice,
        on_claim: Notice,
    },
    /// The claim has to move first.
    Nothing,
}

/// `claim` is the one that the volume refers to by UID, if it exists.
pub fn plan(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> Step {
    let spec = volume.spec.as_ref();
    let Some(reference) = spec.and_then(|s| s.claim_ref.as_ref()) else {
        return Step::Phase("Available");
    };
    if reference.uid.as_deref().unwrap_or_default().is_empty() {
        // Reserved by a user; the claim finds it.
        return Step::Phase("Available");
    }
    let Some(claim) = claim else {
        return Step::Release(reclaim(volume));
    };
    let named = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    match named.unwrap_or_default() {
        "" if !fit::modes_agree(volume, claim) => Step::Mismatch {
            on_volume: Notice::warning(
                "VolumeMismatch",
                format!(
                    "Cannot bind PersistentVolume to requested PersistentVolumeClaim {:?} due to incompatible volumeMode.",
                    claim.metadata.name.as_deref().unwrap_or_default()
                ),
            ),
            on_claim: Notice::warning(
                "VolumeMismatch",
                format!(
                    "Cannot bind PersistentVolume {:?} to requested PersistentVolumeClaim due to incompatible volumeMode.",
                    volume.metadata.name.as_deref().unwrap_or_default()
                ),
            ),
        },
        "" => Step::Nothing,
        name if Some(name) == volume.metadata.name.as_deref() => Step::Phase("Bound"),
        _ => {
            let deletes = policy(volume) == "Delete";
            if deletes && annotation::has(&volume.metadata, PROVISIONED_BY) {
                // Made for a claim that took another one: nobody needs it.
                return Step::Release(reclaim(volume));
            }
            Step::Unbind
        }
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume
        .spec
        .as_ref()
        .and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

/// Why a released volume's reclaim policy cannot be carried out.
fn reclaim(volume: &PersistentVolume) -> Option<Notice> {
    match policy(volume) {
        "Retain" => None,
        // Who made it deletes it.
        "Delete" if annotation::has(&volume.metadata, PROVISIONED_BY) => None,
        "Delete" => Some(Notice::warning(
            "VolumeFailedDelete",
            format!(
                "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
                volume.metadata.name.as_deref().unwrap_or_default()
            ),
        )),
        "Recycle" => Some(Notice::warning(
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!",
        )),
        _ => Some(Notice::warning(
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy",
        )),
    }
}

/// The volume's half of a binding, unless it is written.
pub fn bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let mut changed = volume.clone();
    let spec = changed.spec.get_or_insert_default();
    let same = spec.claim_ref.as_ref().is_some_and(|r| {
        r.uid == claim.metadata.uid && r.name == claim.metadata.name && r.namespace == claim.metadata.namespace
    });
    if !same {
        spec.claim_ref = Some(reference(claim));
    }
    if !fit::is_bound_to(volume, claim) {
        annotation::set(&mut changed.metadata, BOUND_BY_CONTROLLER, "yes");
    }
    (changed != *volume).then_some(changed)
}

/// How a volume names its claim.
pub fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// Free again; or, if a user had reserved it, still reserved for the claim's name.
pub fn unbound(volume: &PersistentVolume) -> PersistentVolume {
    let mut changed = volume.clone();
    let by_controller = annotation::has(&volume.metadata, BOUND_BY_CONTROLLER);
    if let Some(annotations) = &mut changed.metadata.annotations {
        annotations.remove(BOUND_BY_CONTROLLER);
        if annotations.is_empty() {
            changed.metadata.annotations = None;
        }
    }
    if let Some(spec) = &mut changed.spec {
        if by_controller {
            spec.claim_ref = None;
        } else if let Some(reference) = &mut spec.claim_ref {
            reference.uid = None;
        }
    }
    changed
}
