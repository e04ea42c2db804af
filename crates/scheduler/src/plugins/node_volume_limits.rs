//! NodeVolumeLimits: a node takes as many volumes of a CSI driver as the driver says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::event::ClusterEvent;
use crate::framework::{CycleState, Plugin, Point, PreFilter, Rejection, Reuse};
use crate::listers::{Listers, Needs};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

pub struct NodeVolumeLimits {
    listers: Arc<Listers>,
}

/// By driver: handles of volumes. A volume that is still to be made goes by its claim.
type Volumes = BTreeMap<String, BTreeSet<String>>;

struct Wanted(Volumes);

impl NodeVolumeLimits {
    pub fn new(listers: Arc<Listers>) -> Self {
        Self { listers }
    }

    fn volume(&self, claim: &PersistentVolumeClaim) -> Option<(String, String)> {
        let spec = claim.spec.as_ref()?;
        let named = spec.volume_name.as_deref().filter(|n| !n.is_empty());
        if let Some(volume) = named.and_then(|n| self.listers.volumes.find("", n)) {
            let csi = volume.spec.as_ref()?.csi.as_ref()?;
            return Some((csi.driver.clone(), csi.volume_handle.clone()));
        }
        let class = self.listers.classes.find("", spec.storage_class_name.as_deref()?)?;
        Some((class.provisioner.clone(), crate::shape::key(&claim.metadata)))
    }

    fn collect(&self, pod: &PodInfo, into: &mut Volumes) {
        for named in pod.claims() {
            let claim = self.listers.claims.find(pod.namespace(), &named.name());
            if let Some((driver, handle)) = claim.and_then(|c| self.volume(&c)) {
                into.entry(driver).or_default().insert(handle);
            }
        }
    }
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
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
        let mut wanted = Volumes::new();
        self.collect(pod, &mut wanted);
        if wanted.is_empty() {
            return Ok(PreFilter::Skip);
        }
        state.put(Wanted(wanted));
        Ok(PreFilter::All)
    }

    fn filter(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(Wanted(wanted)) = state.get() else {
            return Ok(());
        };
        let Some(csi) = self.listers.csi_nodes.find("", &node.name) else {
            return Ok(());
        };
        let limit = |driver: &str| {
            let driver = csi.spec.drivers.iter().find(|d| d.name == driver)?;
            usize::try_from(driver.allocatable.as_ref()?.count?).ok()
        };
        if wanted.keys().all(|driver| limit(driver).is_none()) {
            return Ok(());
        }
        let mut there = Volumes::new();
        node.pods.iter().for_each(|pod| self.collect(pod, &mut there));
        for (driver, volumes) in wanted {
            let used = there.get(driver);
            let new = volumes.iter().filter(|v| !used.is_some_and(|u| u.contains(*v))).count();
            let used = used.map_or(0, BTreeSet::len);
            if new > 0 && limit(driver).is_some_and(|limit| used + new > limit) {
                return Err(Rejection::new("node(s) exceed max volume count"));
            }
        }
        Ok(())
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) | ClusterEvent::CsiNodeChanged(_) | ClusterEvent::VolumeChanged(_) => true,
            ClusterEvent::PodGone(other) => other.has_claims(),
            ClusterEvent::ClaimChanged(claim) => claim.metadata.namespace.as_deref() == Some(pod.namespace()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::json;

    #[test]
    fn a_driver_limits_its_different_volumes_on_a_node() {
        let listers = Listers::holding();
        let claim = |name: &str, volume: &str| {
            serde_json::from_value(json!({"metadata": {"namespace": "default", "name": name},
                "spec": {"volumeName": volume, "storageClassName": "fast"}}))
            .unwrap()
        };
        listers
            .claims
            .hold([claim("a", "va"), claim("a2", "va"), claim("b", "vb"), claim("c", "")]);
        let volume = |name: &str| {
            serde_json::from_value(json!({"metadata": {"name": name},
                "spec": {"csi": {"driver": "csi.example.com", "volumeHandle": name}}}))
            .unwrap()
        };
        listers.volumes.hold([volume("va"), volume("vb")]);
        listers
            .classes
            .hold([serde_json::from_value(json!({"metadata": {"name": "fast"},
            "provisioner": "csi.example.com"}))
            .unwrap()]);
        listers.csi_nodes.hold([
            serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"drivers": [
            {"name": "csi.example.com", "nodeID": "n", "allocatable": {"count": 1}}]}}))
            .unwrap(),
        ]);
        let plugin = NodeVolumeLimits::new(Arc::new(listers));
        let using = |name: &str, claim: &str| {
            pod(
                name,
                json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}),
            )
        };
        let mut limited = NodeInfo::new(node("n", json!({}), json!({})), 0);
        limited.add_pod(using("there", "a"));
        let mut unlimited = NodeInfo::new(node("m", json!({}), json!({})), 1);
        unlimited.add_pod(using("there", "a"));
        for (claim, fits) in [("a", true), ("a2", true), ("b", false), ("c", false)] {
            let mut state = CycleState::default();
            let new = using("new", claim);
            plugin.pre_filter(&mut state, &new, &Snapshot::default()).unwrap();
            assert_eq!(plugin.filter(&state, &new, &limited).is_ok(), fits, "{claim}");
            assert_eq!(plugin.filter(&state, &new, &unlimited), Ok(()));
        }
    }
}
