//! The claims of a pod: bound, or to be bound where the pod goes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::super::node_affinity::volume_selector;
use crate::framework::Rejection;
use crate::listers::Listers;
use crate::node_selector::NodeSelector;
use crate::resources::parse;
use crate::shape::PodInfo;

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// A claim whose class waits for its first consumer.
pub struct Waiting {
    pub claim: Arc<PersistentVolumeClaim>,
    pub class: Arc<StorageClass>,
    pub size: i64,
}

/// See the [module](self).
pub struct PodClaims {
    /// The node affinities of bound volumes.
    pub bound: Vec<Option<NodeSelector>>,
    /// Some claim is bound to a volume that does not exist.
    pub volume_is_missing: bool,
    /// The smallest first.
    pub waiting: Vec<Waiting>,
    /// Volumes that may be taken, with their node affinity.
    pub volumes: Vec<(Arc<PersistentVolume>, Option<NodeSelector>)>,
}

/// Whether the volume controller has bound the claim.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let annotations = claim.metadata.annotations.as_ref();
    volume_name(claim).is_some() && annotations.is_some_and(|a| a.contains_key(BIND_COMPLETED))
}

pub fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

pub fn class_name(claim: &PersistentVolumeClaim) -> &str {
    let annotations = claim.metadata.annotations.as_ref();
    let beta = annotations.and_then(|a| a.get("volume.beta.kubernetes.io/storage-class"));
    let spec = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    beta.map(String::as_str).or(spec).unwrap_or_default()
}

/// How much the claim asks for, in bytes.
pub fn size(claim: &PersistentVolumeClaim) -> i64 {
    let requests = claim
        .spec
        .as_ref()
        .and_then(|s| s.resources.as_ref()?.requests.as_ref());
    requests.and_then(|r| r.get("storage")).map_or(0, |q| parse(q).value())
}

fn problem(pod: &PodInfo, claim: &PersistentVolumeClaim, ephemeral: bool) -> Option<String> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    if claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost") {
        return Some(format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {:?}",
            volume_name(claim).unwrap_or_default()
        ));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Some(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    if ephemeral && !owners.iter().any(|o| o.controller == Some(true) && o.uid == pod.uid()) {
        return Some(format!(
            "PVC {} was not created for pod {} (pod is not owner)",
            crate::shape::key(&claim.metadata),
            pod.key()
        ));
    }
    None
}

/// The pod's claims, or why the pod cannot go anywhere for now.
pub fn of(pod: &PodInfo, listers: &Listers) -> Result<PodClaims, Rejection> {
    let mut out = PodClaims {
        bound: Vec::new(),
        volume_is_missing: false,
        waiting: Vec::new(),
        volumes: Vec::new(),
    };
    let mut unbound = false;
    for named in pod.claims() {
        let name = named.name();
        let Some(claim) = listers.claims.find(pod.namespace(), &name) else {
            return Err(Rejection::unresolvable_text(match named.is_ephemeral() {
                true => format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"),
                false => format!("persistentvolumeclaim {name:?} not found"),
            }));
        };
        let claim = listers.assumed.lock().claim(claim);
        if let Some(problem) = problem(pod, &claim, named.is_ephemeral()) {
            return Err(Rejection::unresolvable_text(problem));
        }
        if is_bound(&claim) {
            let volume = volume_name(&claim).and_then(|v| listers.volumes.find("", v));
            match volume {
                Some(volume) => out.bound.push(volume_selector(&volume)),
                None => out.volume_is_missing = true,
            }
            continue;
        }
        let class = listers.classes.find("", class_name(&claim));
        match class.filter(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")) {
            Some(class) if volume_name(&claim).is_none() => out.waiting.push(Waiting {
                size: size(&claim),
                claim,
                class,
            }),
            _ => unbound = true,
        }
    }
    if unbound {
        return Err(Rejection::unresolvable(
            "pod has unbound immediate PersistentVolumeClaims",
        ));
    }
    if !out.waiting.is_empty() {
        out.waiting.sort_by_key(|w| w.size);
        let mut volumes = listers.volumes.list();
        volumes.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let mut assumed = listers.assumed.lock();
        let known = volumes.into_iter().map(|v| assumed.volume(v));
        out.volumes = known.map(|v| (v.clone(), volume_selector(&v))).collect();
    }
    Ok(out)
}
