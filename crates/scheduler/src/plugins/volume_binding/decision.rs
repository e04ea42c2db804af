//! How a pod's unbound claims would be bound on a node: by which volumes there, or by volumes made there. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::assumed::SELECTED_NODE;
use super::claims::{PodClaims, Waiting, class_name, size};
use crate::framework::Rejection;
use crate::listers::Listers;
use crate::node_info::NodeInfo;
use crate::node_selector::{NodeSelector, topology_allows};
use crate::resources::parse;

const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// Claims with the volumes they take.
    pub take: Vec<(Arc<PersistentVolumeClaim>, Arc<PersistentVolume>)>,
    /// Claims whose volumes will be made for the node.
    pub make: Vec<Arc<PersistentVolumeClaim>>,
}

impl Decision {
    pub fn is_empty(&self) -> bool {
        self.take.is_empty() && self.make.is_empty()
    }

    /// By class: how much is asked for of how much the volumes taken have.
    pub fn fullness(&self) -> Vec<(i64, i64)> {
        let mut classes: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for (claim, volume) in &self.take {
            let class = classes.entry(class_name(claim)).or_default();
            class.0 += size(claim);
            class.1 += capacity(volume);
        }
        classes.into_values().collect()
    }
}

fn capacity(volume: &PersistentVolume) -> i64 {
    let capacity = volume.spec.as_ref().and_then(|s| s.capacity.as_ref());
    capacity.and_then(|c| c.get("storage")).map_or(0, |q| parse(q).value())
}

/// What the node offers, or why the pod cannot go there.
pub fn decide(claims: &PodClaims, node: &NodeInfo, listers: &Listers) -> Result<Decision, Rejection> {
    if claims.volume_is_missing {
        return Err(Rejection::unresolvable(
            "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
        ));
    }
    let usable = |s: &Option<NodeSelector>| s.as_ref().is_none_or(|s| s.matches(&node.node));
    if !claims.bound.iter().all(usable) {
        return Err(Rejection::unresolvable(
            "node(s) didn't match PersistentVolume's node affinity",
        ));
    }
    let mut out = Decision::default();
    for waiting in &claims.waiting {
        let annotations = waiting.claim.metadata.annotations.as_ref();
        let selected = annotations.and_then(|a| a.get(SELECTED_NODE)).filter(|n| !n.is_empty());
        // A volume is being made for that node already.
        let found = match selected {
            Some(selected) if **selected != *node.name => return Err(nothing_to_bind()),
            Some(_) => None,
            None => volume_for(waiting, claims, node, &out),
        };
        match found {
            Some(volume) => out.take.push((waiting.claim.clone(), volume)),
            None => {
                can_be_made(waiting, node, listers)?;
                out.make.push(waiting.claim.clone());
            }
        }
    }
    Ok(out)
}

fn nothing_to_bind() -> Rejection {
    Rejection::unresolvable("node(s) didn't find available persistent volumes to bind")
}

/// The smallest volume that will do; one that is set aside for the claim before all others.
fn volume_for(
    waiting: &Waiting,
    claims: &PodClaims,
    node: &NodeInfo,
    taken: &Decision,
) -> Option<Arc<PersistentVolume>> {
    let claim = &waiting.claim;
    let selector = claim.spec.as_ref().and_then(|s| s.selector.as_ref());
    let selector = selector.map(|s| LabelSelector::from_typed(Some(s)).unwrap_or_else(|_| LabelSelector::nothing()));
    let mut best: Option<(&Arc<PersistentVolume>, i64)> = None;
    for (volume, affinity) in &claims.volumes {
        if taken.take.iter().any(|(_, v)| v.metadata.name == volume.metadata.name) || !suits(claim, volume) {
            continue;
        }
        let has = capacity(volume);
        if has < waiting.size || !affinity.as_ref().is_none_or(|a| a.matches(&node.node)) {
            continue;
        }
        match reserved_for(volume, claim) {
            Reserved::ForIt => return Some(volume.clone()),
            Reserved::ForAnother => continue,
            Reserved::No => {}
        }
        let labels = volume.metadata.labels.clone().unwrap_or_default();
        let available = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Available");
        if !available || selector.as_ref().is_some_and(|s| !s.matches_labels(&labels)) {
            continue;
        }
        if best.is_none_or(|(_, least)| has < least) {
            best = Some((volume, has));
        }
    }
    best.map(|(volume, _)| volume.clone())
}

/// Class, mode and access modes.
fn suits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let (Some(wanted), Some(has)) = (&claim.spec, &volume.spec) else {
        return false;
    };
    let mode = |m: &Option<String>| m.clone().unwrap_or_else(|| "Filesystem".into());
    let modes = has.access_modes.as_deref().unwrap_or_default();
    let annotations = volume.metadata.annotations.as_ref();
    let beta = annotations.and_then(|a| a.get("volume.beta.kubernetes.io/storage-class"));
    let class = beta.or(has.storage_class_name.as_ref()).map_or("", String::as_str);
    volume.metadata.deletion_timestamp.is_none()
        && class == class_name(claim)
        && mode(&wanted.volume_mode) == mode(&has.volume_mode)
        && wanted.access_modes.iter().flatten().all(|m| modes.contains(m))
        && wanted.volume_attributes_class_name.as_deref().unwrap_or_default()
            == has.volume_attributes_class_name.as_deref().unwrap_or_default()
}

enum Reserved {
    ForIt,
    ForAnother,
    No,
}

fn reserved_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Reserved {
    let Some(reference) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else {
        return Reserved::No;
    };
    let same = reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (reference.uid.is_none() || reference.uid == claim.metadata.uid);
    match same {
        true => Reserved::ForIt,
        false => Reserved::ForAnother,
    }
}

fn can_be_made(waiting: &Waiting, node: &NodeInfo, listers: &Listers) -> Result<(), Rejection> {
    let class = &waiting.class;
    if class.provisioner.is_empty() || class.provisioner == NO_PROVISIONER {
        return Err(nothing_to_bind());
    }
    if !topology_allows(class.allowed_topologies.as_deref().unwrap_or_default(), node.labels()) {
        return Err(nothing_to_bind());
    }
    if has_capacity(class, waiting.size, node, listers) {
        return Ok(());
    }
    Err(Rejection::unresolvable("node(s) did not have enough free storage"))
}

/// Drivers that tell their capacity must have told of enough for this node.
fn has_capacity(class: &StorageClass, size: i64, node: &NodeInfo, listers: &Listers) -> bool {
    let driver = listers.csi_drivers.find("", &class.provisioner);
    if driver.is_none_or(|d| d.spec.storage_capacity != Some(true)) {
        return true;
    }
    listers.capacities.list().iter().any(|c| {
        let limit = c.maximum_volume_size.as_ref().or(c.capacity.as_ref());
        let reaches = LabelSelector::from_typed(c.node_topology.as_ref());
        Some(&c.storage_class_name) == class.metadata.name.as_ref()
            && limit.is_some_and(|l| parse(l).value() >= size)
            && reaches.is_ok_and(|s| s.matches_labels(node.labels()))
    })
}
