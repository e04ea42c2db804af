//! What the fleet remembers: its nodes with their ranges and outages, its pods' records. Locks are held for a moment and
//! never together but in this order: nodes, pods.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;

use crate::config::{Cidr, Window};
use crate::network::Range;
use crate::record::{Record, Records};

pub(super) struct State {
    cidr: Cidr,
    prefix: u8,
    /// The ranges below this one belong to the numbered nodes.
    reserved: u32,
    nodes: Mutex<Nodes>,
    pods: Mutex<Records>,
}

#[derive(Default)]
struct Nodes {
    by_name: HashMap<Arc<str>, NodeState>,
    /// The ranges given to nodes that came without one.
    given: HashSet<u32>,
}

struct NodeState {
    uid: String,
    cidr: Option<Cidr>,
    range: Option<Range>,
    windows: Arc<[Window]>,
}

fn spec_cidr(node: &Node) -> Option<Cidr> {
    Cidr::parse(node.spec.as_ref()?.pod_cidr.as_deref()?).ok()
}

fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_network) == Some(true)
}

fn node_of(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .unwrap_or_default()
}

impl State {
    pub(super) fn new(cidr: Cidr, prefix: u8, reserved: u32) -> Self {
        Self {
            cidr,
            prefix,
            reserved,
            nodes: Mutex::default(),
            pods: Mutex::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.lock().by_name.len()
    }

    pub(super) fn pods(&self) -> usize {
        self.pods.lock().len()
    }

    pub(super) fn has(&self, node: &str) -> bool {
        self.nodes.lock().by_name.contains_key(node)
    }

    pub(super) fn windows(&self, node: &str) -> Option<Arc<[Window]>> {
        Some(self.nodes.lock().by_name.get(node)?.windows.clone())
    }

    pub(super) fn uid(&self, node: &str) -> Option<String> {
        Some(self.nodes.lock().by_name.get(node)?.uid.clone())
    }

    /// The range a node has by its own account or ours.
    pub(super) fn cidr(&self, node: &str) -> Option<Cidr> {
        self.nodes.lock().by_name.get(node)?.cidr
    }

    /// The range of the numbered node.
    pub(super) fn numbered(&self, index: u32) -> Option<Cidr> {
        self.cidr.part(self.prefix, index)
    }

    /// Takes the node up; whether it was not there yet, or was another by the same name.
    pub(super) fn adopt(&self, node: &Node, windows: Vec<Window>) -> bool {
        let (Some(name), Some(uid)) = (node.metadata.name.as_deref(), node.metadata.uid.clone()) else {
            return false;
        };
        let mut nodes = self.nodes.lock();
        if nodes.by_name.get(name).is_some_and(|known| known.uid == uid) {
            return false;
        }
        let cidr = spec_cidr(node).or_else(|| self.free(&mut nodes));
        if let Some(index) = cidr.and_then(|c| self.cidr.index_of(c)) {
            nodes.given.insert(index);
        }
        let state = NodeState {
            uid,
            cidr,
            range: cidr.map(Range::new),
            windows: windows.into(),
        };
        nodes.by_name.insert(name.into(), state);
        true
    }

    /// A range that no node has, behind those of the numbered nodes.
    fn free(&self, nodes: &mut Nodes) -> Option<Cidr> {
        let count = u32::try_from(self.cidr.parts(self.prefix)).unwrap_or(u32::MAX);
        let index = (self.reserved..count).find(|index| !nodes.given.contains(index))?;
        self.cidr.part(self.prefix, index)
    }

    pub(super) fn forget(&self, node: &Node) {
        let mut nodes = self.nodes.lock();
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let same = |known: &NodeState| Some(&known.uid) == node.metadata.uid.as_ref();
        if nodes.by_name.get(name).is_some_and(same)
            && let Some(state) = nodes.by_name.remove(name)
            && let Some(index) = state.cidr.and_then(|c| self.cidr.index_of(c))
        {
            nodes.given.remove(&index);
        }
    }

    /// Makes the pod's record if it is on one of the nodes; whether it is.
    pub(super) fn accept(&self, pod: &Pod, ended: bool, now: i64) -> bool {
        let mut nodes = self.nodes.lock();
        let Some(node) = nodes.by_name.get_mut(node_of(pod)) else {
            return false;
        };
        let mut pods = self.pods.lock();
        let record = pods.accept(pod, now);
        let range = node.range.as_mut();
        if ended {
            if let (Some(address), Some(range)) = (record.address.take(), range) {
                range.release(address);
            }
        } else if record.address.is_none() && !host_network(pod) {
            let told = pod
                .status
                .as_ref()
                .and_then(|s| s.pod_ip.as_deref()?.parse::<Ipv4Addr>().ok());
            record.address = told.filter(|told| range.is_some_and(|range| range.claim(*told)));
        }
        true
    }

    /// The pod's record, with an address if there is one to be had, and where it is reached.
    pub(super) fn look(&self, pod: &Pod, now: i64) -> Option<(Record, Option<Ipv4Addr>)> {
        let mut nodes = self.nodes.lock();
        let node = nodes.by_name.get_mut(node_of(pod))?;
        let mut pods = self.pods.lock();
        let record = pods.accept(pod, now);
        if host_network(pod) {
            return Some((*record, node.range.as_ref().and_then(Range::own)));
        }
        if record.address.is_none() {
            record.address = node.range.as_mut().and_then(Range::take);
        }
        Some((*record, record.address))
    }

    /// The pod's number within its group.
    pub(super) fn ordinal(&self, pod: &Pod) -> Option<u32> {
        Some(self.pods.lock().get_mut(pod)?.ordinal)
    }

    /// The pod has ended: another may have its address.
    pub(super) fn release(&self, pod: &Pod) {
        let mut nodes = self.nodes.lock();
        let mut pods = self.pods.lock();
        let Some(address) = pods.get_mut(pod).and_then(|record| record.address.take()) else {
            return;
        };
        if let Some(range) = nodes.by_name.get_mut(node_of(pod)).and_then(|node| node.range.as_mut()) {
            range.release(address);
        }
    }

    pub(super) fn drop_pod(&self, pod: &Pod) {
        self.release(pod);
        self.pods.lock().remove(pod);
    }
}
