//! What a claim needs next. Pure; the world comes in as [`World`].

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::annotation::{self, BETA_STORAGE_PROVISIONER, BIND_COMPLETED, BOUND_BY_CONTROLLER, STORAGE_PROVISIONER};
use super::{Notice, fit};

/// What is seen around a claim.
pub struct World<'a> {
    /// Volumes that refer to the claim, and free ones of its class.
    pub candidates: &'a [Arc<PersistentVolume>],
    /// The volume that the claim names.
    pub named: Option<&'a Arc<PersistentVolume>>,
    /// The claim's class.
    pub class: Option<&'a StorageClass>,
    pub default_class: Option<&'a str>,
    /// Pods without a node that mount the claim.
    pub waiting_pods: &'a [String],
}

#[derive(Debug)]
pub enum Step {
    /// Write both sides of the binding, where they are not written.
    Bind(Arc<PersistentVolume>),
    /// The claim said nothing of classes, and now there is a default one.
    AssignClass(String),
    /// Ask this provisioner.
    Provision(String),
    /// Set the phase; tell this if it was another one.
    Phase(&'static str, Option<Notice>),
    Nothing,
    /// The objects contradict each other; only a user can help.
    Refuse(String),
}

#[derive(Debug)]
pub struct Plan {
    pub step: Step,
    pub notice: Option<Notice>,
}

impl From<Step> for Plan {
    fn from(step: Step) -> Self {
        Self { step, notice: None }
    }
}

pub fn plan(claim: &PersistentVolumeClaim, world: &World<'_>) -> Plan {
    if annotation::has(&claim.metadata, BIND_COMPLETED) {
        bound(claim, world).into()
    } else {
        unbound(claim, world)
    }
}

fn named(claim: &PersistentVolumeClaim) -> &str {
    let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    name.unwrap_or_default()
}

/// A claim that was bound once keeps its volume or is lost.
fn bound(claim: &PersistentVolumeClaim, world: &World<'_>) -> Step {
    let lost = |reason, message: &str| Step::Phase("Lost", Some(Notice::warning(reason, message)));
    if named(claim).is_empty() {
        return lost(
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        );
    }
    let Some(volume) = world.named else {
        return lost(
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        );
    };
    match volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) {
        None => Step::Bind(volume.clone()),
        Some(reference) if reference.uid == claim.metadata.uid => Step::Bind(volume.clone()),
        Some(_) => lost(
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        ),
    }
}

fn unbound(claim: &PersistentVolumeClaim, world: &World<'_>) -> Plan {
    let name = named(claim);
    if name.is_empty() {
        return find(claim, world);
    }
    let pending = |notice| Plan {
        step: Step::Phase("Pending", None),
        notice,
    };
    // What is named may still come.
    let Some(volume) = world.named else {
        return pending(None);
    };
    match volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) {
        None => match fit::mismatch(volume, claim) {
            None => Step::Bind(volume.clone()).into(),
            Some(why) => pending(Some(Notice::warning(
                "VolumeMismatch",
                format!("Cannot bind to requested volume {name:?}: {why}"),
            ))),
        },
        Some(_) if fit::is_bound_to(volume, claim) => Step::Bind(volume.clone()).into(),
        Some(other) => {
            if annotation::has(&claim.metadata, BOUND_BY_CONTROLLER) {
                return Step::Refuse(format!(
                    "invalid binding of claim {}/{} to volume {name:?}: volume already claimed by {}/{}",
                    claim.metadata.namespace.as_deref().unwrap_or_default(),
                    claim.metadata.name.as_deref().unwrap_or_default(),
                    other.namespace.as_deref().unwrap_or_default(),
                    other.name.as_deref().unwrap_or_default(),
                ))
                .into();
            }
            pending(Some(Notice::warning(
                "FailedBinding",
                format!("volume {name:?} already bound to a different claim."),
            )))
        }
    }
}

/// A claim that takes any volume.
fn find(claim: &PersistentVolumeClaim, world: &World<'_>) -> Plan {
    let delayed = world.class.and_then(|c| c.volume_binding_mode.as_deref()) == Some("WaitForFirstConsumer");
    let chosen = annotation::has(&claim.metadata, annotation::SELECTED_NODE);
    if let Some(volume) = fit::best(world.candidates, claim, delayed) {
        return Step::Bind(volume.clone()).into();
    }
    if let (None, Some(class)) = (fit::class_said(claim), world.default_class) {
        return Step::AssignClass(class.to_owned()).into();
    }
    if delayed && !chosen {
        return Plan {
            step: Step::Phase("Pending", None),
            notice: Some(waiting(world.waiting_pods)),
        };
    }
    let class = fit::class_of_claim(claim);
    if class.is_empty() {
        return Plan {
            step: Step::Phase("Pending", None),
            notice: Some(Notice::normal(
                "FailedBinding",
                "no persistent volumes available for this claim and no storage class is set",
            )),
        };
    }
    let failed = |message| Plan {
        step: Step::Nothing,
        notice: Some(Notice::warning("ProvisioningFailed", message)),
    };
    let Some(class) = world.class else {
        return failed(format!("storageclass.storage.k8s.io {class:?} not found"));
    };
    if class.provisioner.starts_with("kubernetes.io/") {
        // In-tree, of which none is left; `no-provisioner` is only for volumes made by hand.
        return failed("no volume plugin matched".to_owned());
    }
    Plan {
        step: Step::Provision(class.provisioner.clone()),
        notice: Some(Notice::normal(
            "ExternalProvisioning",
            format!(
                "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system \
                 administrator. If volume creation is delayed, please verify that the provisioner is running and \
                 correctly registered.",
                class.provisioner
            ),
        )),
    }
}

fn waiting(pods: &[String]) -> Notice {
    match pods {
        [] => Notice::normal(
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding",
        ),
        [pod] => Notice::normal("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
        pods => Notice::normal(
            "WaitForPodScheduled",
            format!("waiting for pods {} to be scheduled", pods.join(",")),
        ),
    }
}

/// The claim with its provisioner named, unless it is.
pub fn handed_over(claim: &PersistentVolumeClaim, provisioner: &str) -> Option<PersistentVolumeClaim> {
    let mut changed = claim.clone();
    let new = annotation::set(&mut changed.metadata, STORAGE_PROVISIONER, provisioner);
    let old = annotation::set(&mut changed.metadata, BETA_STORAGE_PROVISIONER, provisioner);
    (new || old).then_some(changed)
}

/// The claim's half of a binding, unless it is written.
pub fn bound_to(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let mut changed = claim.clone();
    if Some(named(claim)) != volume.metadata.name.as_deref() {
        changed.spec.get_or_insert_default().volume_name = volume.metadata.name.clone();
        annotation::set(&mut changed.metadata, BOUND_BY_CONTROLLER, "yes");
    }
    if !annotation::has(&changed.metadata, BIND_COMPLETED) {
        annotation::set(&mut changed.metadata, BIND_COMPLETED, "yes");
    }
    (changed != *claim).then_some(changed)
}

/// The claim in this phase, with what the volume gives, unless it says so.
pub fn with_status(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> Option<PersistentVolumeClaim> {
    let mut changed = claim.clone();
    let status = changed.status.get_or_insert_default();
    let enters = status.phase.as_deref() != Some(phase);
    status.phase = Some(phase.to_owned());
    match volume.and_then(|v| v.spec.as_ref()) {
        None => {
            status.access_modes = None;
            status.capacity = None;
        }
        Some(spec) => {
            status.access_modes.clone_from(&spec.access_modes);
            // Later the capacity is the business of who resizes the volume.
            if enters {
                status.capacity.clone_from(&spec.capacity);
                status
                    .current_volume_attributes_class_name
                    .clone_from(&spec.volume_attributes_class_name);
            }
        }
    }
    (changed != *claim).then_some(changed)
}
