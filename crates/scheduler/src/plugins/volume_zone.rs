//! VolumeZone: a volume with labels of a zone or region is only used on nodes of the same.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;

use super::volume_binding::is_bound;
use crate::event::ClusterEvent;
use crate::framework::{CycleState, Plugin, Point, PreFilter, Rejection, Reuse};
use crate::listers::{Listers, Needs};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const BETA_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const BETA_REGION: &str = "failure-domain.beta.kubernetes.io/region";

/// Each label with the one that means the same.
const LABELS: [(&str, &str); 4] = [
    (ZONE, BETA_ZONE),
    (REGION, BETA_REGION),
    (BETA_ZONE, ZONE),
    (BETA_REGION, REGION),
];

pub struct VolumeZone {
    listers: Arc<Listers>,
}

impl VolumeZone {
    pub fn new(listers: Arc<Listers>) -> Self {
        Self { listers }
    }
}

struct Place {
    label: &'static str,
    alias: &'static str,
    /// One of these.
    values: Vec<String>,
}

/// Where the pod's volumes are.
struct Places(Vec<Place>);

fn places(volume: &PersistentVolume) -> impl Iterator<Item = Place> {
    let labels = volume.metadata.labels.clone().unwrap_or_default();
    LABELS.into_iter().filter_map(move |(label, alias)| {
        let values = labels.get(label)?.split("__").map(|v| v.trim().to_owned());
        Some(Place {
            label,
            alias,
            values: values.collect(),
        })
    })
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn reuse(&self, pod: &PodInfo) -> Reuse {
        match pod.has_claims() {
            true => Reuse::Nothing,
            false => Reuse::Node,
        }
    }

    fn needs(&self, pod: &PodInfo) -> Needs {
        match pod.has_claims() {
            true => Needs::STORAGE,
            false => Needs::NOTHING,
        }
    }

    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, _snapshot: &Snapshot) -> Result<PreFilter, Rejection> {
        let mut found = Vec::new();
        for named in pod.claims() {
            let claim = self.listers.claims.find(pod.namespace(), &named.name());
            // What is not bound yet is for VolumeBinding.
            let Some(claim) = claim.filter(|c| is_bound(c)) else {
                continue;
            };
            let volume = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
            if let Some(volume) = volume.and_then(|v| self.listers.volumes.find("", v)) {
                found.extend(places(&volume));
            }
        }
        if found.is_empty() {
            return Ok(PreFilter::Skip);
        }
        state.put(Places(found));
        Ok(PreFilter::All)
    }

    fn filter(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(Places(places)) = state.get() else {
            return Ok(());
        };
        let labels = node.labels();
        if LABELS.iter().all(|(label, _)| !labels.contains_key(*label)) {
            // The node is in no zone at all: a cluster of one.
            return Ok(());
        }
        let is_there = |place: &Place| {
            let value = labels.get(place.label).or_else(|| labels.get(place.alias));
            value.is_some_and(|v| place.values.contains(v))
        };
        match places.iter().all(is_there) {
            true => Ok(()),
            false => Err(Rejection::unresolvable("node(s) had no available volume zone")),
        }
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) | ClusterEvent::VolumeChanged(_) => true,
            ClusterEvent::NodeChanged { change, .. } => change.labels,
            ClusterEvent::ClaimChanged(claim) => claim.metadata.namespace.as_deref() == Some(pod.namespace()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::{Value, json};

    #[test]
    fn a_zonal_volume_keeps_its_pod_in_the_zone() {
        let verdict = |volume: Value, labels: Value| {
            let listers = Listers::holding();
            let claim = json!({"metadata": {"namespace": "default", "name": "c",
                "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "v"}});
            listers.claims.hold([serde_json::from_value(claim).unwrap()]);
            listers
                .volumes
                .hold([serde_json::from_value(json!({"metadata": {"name": "v", "labels": volume}})).unwrap()]);
            let plugin = VolumeZone::new(Arc::new(listers));
            let pod = pod(
                "a",
                json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}),
            );
            let mut state = CycleState::default();
            plugin.pre_filter(&mut state, &pod, &Snapshot::default()).unwrap();
            plugin
                .filter(&state, &pod, &NodeInfo::new(node("n", labels, json!({})), 0))
                .is_ok()
        };
        let zone = |v: &str| json!({ZONE: v});
        for (volume, labels, fits) in [
            (zone("a"), zone("a"), true),
            (zone("a"), zone("b"), false),
            (zone("a__b"), zone("b"), true),
            (zone("a"), json!({}), true),
            (zone("a"), json!({REGION: "r"}), false),
            (json!({BETA_ZONE: "a"}), zone("a"), true),
            (json!({}), zone("b"), true),
        ] {
            assert_eq!(verdict(volume.clone(), labels.clone()), fits, "{volume} {labels}");
        }
    }
}
