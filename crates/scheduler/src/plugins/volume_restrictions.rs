//! VolumeRestrictions: a claim of access mode ReadWriteOncePod is used by one pod in the cluster; a disk that must not be
//! mounted twice for writing is used by one pod of a node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::event::ClusterEvent;
use crate::framework::{CycleState, Plugin, Point, PreFilter, Rejection, Reuse};
use crate::listers::{Listers, Needs};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

pub struct VolumeRestrictions {
    listers: Arc<Listers>,
}

impl VolumeRestrictions {
    pub fn new(listers: Arc<Listers>) -> Self {
        Self { listers }
    }
}

/// What Filter looks at.
struct State {
    /// The pod's claims that only one pod may use.
    exclusive: Vec<String>,
    /// How many pods use any of them.
    users: i64,
    has_disks: bool,
}

/// Disks by kind, what identifies them, and whether this use of them goes with others like it.
fn disk(volume: &Volume) -> Option<(&'static str, Vec<&str>, bool)> {
    if let Some(d) = &volume.gce_persistent_disk {
        return Some(("gce", vec![&d.pd_name], d.read_only.unwrap_or(false)));
    }
    if let Some(d) = &volume.aws_elastic_block_store {
        return Some(("aws", vec![&d.volume_id], false));
    }
    if let Some(d) = &volume.iscsi {
        return Some(("iscsi", vec![&d.iqn], d.read_only.unwrap_or(false)));
    }
    let d = volume.rbd.as_ref()?;
    let mut identity: Vec<&str> = vec![d.pool.as_deref().unwrap_or("rbd"), &d.image];
    identity.extend(d.monitors.iter().map(String::as_str));
    Some(("rbd", identity, d.read_only.unwrap_or(false)))
}

fn disks(pod: &Pod) -> impl Iterator<Item = (&'static str, Vec<&str>, bool)> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(disk)
}

fn clash(pod: &Pod, other: &Pod) -> bool {
    disks(pod).any(|(kind, identity, shared)| {
        disks(other).any(|(k, i, s)| k == kind && same(kind, &identity, &i) && !(shared && s))
    })
}

/// Images of an RBD cluster are the same if they have a monitor in common.
fn same(kind: &str, a: &[&str], b: &[&str]) -> bool {
    match kind {
        "rbd" => a[..2] == b[..2] && a[2..].iter().any(|m| b[2..].contains(m)),
        _ => a == b,
    }
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn reuse(&self, pod: &PodInfo) -> Reuse {
        match pod.has_claims() || disks(&pod.pod).next().is_some() {
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

    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot) -> Result<PreFilter, Rejection> {
        let mut exclusive = Vec::new();
        for claim in pod.claims() {
            let name = claim.name();
            let found = self.listers.claims.find(pod.namespace(), &name);
            let modes = found.and_then(|c| c.spec.as_ref()?.access_modes.clone());
            if modes.unwrap_or_default().iter().any(|m| m == "ReadWriteOncePod") {
                exclusive.push(name);
            }
        }
        let has_disks = disks(&pod.pod).next().is_some();
        if exclusive.is_empty() && !has_disks {
            return Ok(PreFilter::Skip);
        }
        let users = exclusive
            .iter()
            .map(|c| i64::from(snapshot.claim_users(pod.namespace(), c)));
        state.put(State {
            users: users.sum(),
            exclusive,
            has_disks,
        });
        Ok(PreFilter::All)
    }

    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(state) = state.get::<State>() else {
            return Ok(());
        };
        if state.has_disks && node.pods.iter().any(|other| clash(&pod.pod, &other.pod)) {
            return Err(Rejection::new("node(s) had no available disk"));
        }
        if state.users > 0 {
            return Err(Rejection::new(
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by \
                 another pod",
            ));
        }
        Ok(())
    }

    fn add_pod(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, _node: &NodeInfo) {
        change(state, pod, other, 1);
    }

    fn remove_pod(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, _node: &NodeInfo) {
        change(state, pod, other, -1);
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::PodGone(other) => {
                clash(&pod.pod, &other.pod)
                    || (other.namespace() == pod.namespace()
                        && other.claims().any(|c| pod.claims().any(|own| own.name() == c.name())))
            }
            ClusterEvent::ClaimChanged(claim) => claim.metadata.namespace.as_deref() == Some(pod.namespace()),
            _ => false,
        }
    }
}

fn change(state: &mut CycleState, pod: &PodInfo, other: &PodInfo, by: i64) {
    if let Some(state) = state.get_mut::<State>()
        && other.namespace() == pod.namespace()
    {
        let used = other.claims().filter(|c| state.exclusive.contains(&c.name())).count();
        state.users += by * i64::try_from(used).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::{Value, json};

    fn with_volume(name: &str, volume: Value) -> PodInfo {
        let mut volume = volume;
        volume["name"] = "v".into();
        pod(name, json!({"volumes": [volume]}))
    }

    #[test]
    fn one_pod_in_the_cluster_uses_a_claim_of_read_write_once_pod() {
        let listers = Listers::holding();
        let claim = |name: &str, mode: &str| {
            let claim = json!({"metadata": {"namespace": "default", "name": name}, "spec": {"accessModes": [mode]}});
            serde_json::from_value(claim).unwrap()
        };
        listers
            .claims
            .hold([claim("one", "ReadWriteOncePod"), claim("many", "ReadWriteOnce")]);
        let plugin = VolumeRestrictions::new(Arc::new(listers));
        let using = |name: &str, claim: &str| with_volume(name, json!({"persistentVolumeClaim": {"claimName": claim}}));
        let mut snapshot = Snapshot::default();
        for name in ["n1", "n2"] {
            snapshot.set_node(node(name, json!({}), json!({})));
        }
        snapshot.add_pod("n1", using("there", "one"));
        snapshot.add_pod("n1", using("there-too", "many"));
        snapshot.settle();
        let (n1, n2) = (snapshot.named("n1").unwrap(), snapshot.named("n2").unwrap());
        let mut state = CycleState::default();
        let new = using("new", "one");
        plugin.pre_filter(&mut state, &new, &snapshot).unwrap();
        assert!(plugin.filter(&state, &new, n2).is_err(), "wherever the other pod is");
        plugin.remove_pod(&mut state, &new, &using("there", "one"), n1);
        assert_eq!(plugin.filter(&state, &new, n2), Ok(()));
        let shared = plugin.pre_filter(&mut CycleState::default(), &using("new", "many"), &snapshot);
        assert!(matches!(shared, Ok(PreFilter::Skip)));
    }

    #[test]
    fn disks_are_not_mounted_twice_for_writing() {
        let gce = |name: &str, read_only: bool| json!({"gcePersistentDisk": {"pdName": name, "readOnly": read_only}});
        let rbd = |monitor: &str| json!({"rbd": {"monitors": [monitor, "m0"], "image": "i", "pool": "p"}});
        let aws = || json!({"awsElasticBlockStore": {"volumeID": "x"}});
        for (a, b, fits) in [
            (gce("d", false), gce("d", false), false),
            (gce("d", true), gce("d", true), true),
            (gce("d", true), gce("d", false), false),
            (gce("d", false), gce("e", false), true),
            (aws(), aws(), false),
            (rbd("m1"), rbd("m2"), false),
            (json!({"emptyDir": {}}), aws(), true),
        ] {
            let clashes = clash(&with_volume("a", a.clone()).pod, &with_volume("b", b.clone()).pod);
            assert_eq!(clashes, !fits, "{a} {b}");
        }
    }
}
