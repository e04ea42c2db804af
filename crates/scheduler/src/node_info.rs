//! A node with what runs on it, summed up as filters and scores ask for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::resources::{Resources, parse};
use crate::shape::{HostPort, PodInfo};

/// The effect of taints that keep nobody out.
pub const SOFT: &str = "PreferNoSchedule";

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its number in the snapshot, for [`Topology`](crate::topology::Topology).
    pub number: u32,
    pub name: Arc<str>,
    pub node: Arc<Node>,
    pub allocatable: Resources,
    pub allowed_pods: i64,
    pub is_unschedulable: bool,
    /// Some taint only asks pods to keep away.
    pub has_soft_taints: bool,
    pub requested: Resources,
    pub assumed_use: Resources,
    pub pods: Vec<PodInfo>,
    /// Its value in each [grouping](crate::snapshot::Snapshot::topology_number) of nodes.
    pub(crate) domains: Vec<Option<usize>>,
    pub(crate) topology_keys: Arc<[Arc<str>]>,
    /// Of all its pods; a port may be there twice while one pod replaces another.
    pub host_ports: Vec<HostPort>,
}

impl NodeInfo {
    pub fn new(node: Arc<Node>, number: u32) -> Self {
        let mut out = Self {
            number,
            name: node.metadata.name.as_deref().unwrap_or_default().into(),
            node: node.clone(),
            allocatable: Resources::default(),
            allowed_pods: 0,
            is_unschedulable: false,
            has_soft_taints: false,
            requested: Resources::default(),
            assumed_use: Resources::default(),
            pods: Vec::new(),
            domains: Vec::new(),
            topology_keys: Arc::default(),
            host_ports: Vec::new(),
        };
        out.set_node(node);
        out
    }

    pub(crate) fn set_node(&mut self, node: Arc<Node>) {
        let listed = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
        self.allocatable = listed.map(Resources::parse).unwrap_or_default();
        self.allowed_pods = listed.and_then(|l| l.get("pods")).map_or(0, |q| parse(q).value());
        let spec = node.spec.as_ref();
        self.is_unschedulable = spec.and_then(|s| s.unschedulable).unwrap_or(false);
        let mut taints = spec.into_iter().flat_map(|s| s.taints.iter().flatten());
        self.has_soft_taints = taints.any(|t| t.effect == SOFT);
        self.node = node;
    }

    /// The number of the node's value in a grouping of nodes, by the grouping's number; `None` if it lacks the label.
    #[inline]
    pub fn domain(&self, topology: usize) -> Option<usize> {
        self.domains.get(topology).copied().flatten()
    }

    /// The number of the grouping by this label.
    pub fn topology_number(&self, key: &str) -> Option<usize> {
        self.topology_keys.iter().position(|k| k.as_ref() == key)
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.node.metadata.labels.as_ref().unwrap_or(&NONE)
    }

    pub fn taints(&self) -> &[Taint] {
        let spec = self.node.spec.as_ref();
        spec.and_then(|s| s.taints.as_deref()).unwrap_or_default()
    }

    pub fn add_pod(&mut self, pod: PodInfo) {
        self.requested.add(&pod.shape.requests);
        self.assumed_use.add(&pod.shape.assumed_use);
        self.host_ports.extend(pod.shape.host_ports.iter().cloned());
        self.pods.push(pod);
    }

    pub fn remove_pod(&mut self, uid: &str) -> Option<PodInfo> {
        let at = self.pods.iter().position(|p| p.uid() == uid)?;
        let pod = self.pods.swap_remove(at);
        self.requested.subtract(&pod.shape.requests);
        self.assumed_use.subtract(&pod.shape.assumed_use);
        for port in &pod.shape.host_ports {
            if let Some(at) = self.host_ports.iter().position(|p| p == port) {
                self.host_ports.swap_remove(at);
            }
        }
        Some(pod)
    }
}
