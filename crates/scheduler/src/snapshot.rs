//! The cluster as a scheduling cycle sees it: nodes in the order they are tried, and pods by place and by shape. It is
//! changed one pod or node at a time by the [cache](crate::cache) between cycles, never rebuilt.

mod journal;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::event::NodeChange;
use crate::node_info::NodeInfo;
use crate::shape::{PodInfo, Shape};
use crate::topology::Topology;

use journal::Journal;
pub use journal::{Moment, PodChange};

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

/// How many pods of one shape are on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub node: u32,
    pub pods: u32,
    /// Of them, on their way out.
    pub terminating: u32,
}

/// Where the pods of one shape are.
#[derive(Debug)]
pub struct ShapeUse {
    pub shape: Arc<Shape>,
    /// In order of node.
    pub shares: Vec<Share>,
}

/// An image on nodes.
#[derive(Debug, Default)]
pub struct ImageUse {
    /// Node numbers in order, with the image's size there.
    pub nodes: Vec<(u32, i64)>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Snapshot {
    nodes: Vec<Option<NodeInfo>>,
    /// By node number: another one whenever the node or its pods changed. Beside the nodes, because it is asked far oftener.
    generations: Vec<u64>,
    generation: u64,
    journal: Journal,
    by_name: HashMap<Arc<str>, u32>,
    free: Vec<u32>,
    order: Vec<u32>,
    order_is_stale: bool,
    topologies: Vec<Topology>,
    /// The labels that those group nodes by, in the same order; every node has this list too.
    topology_keys: Arc<[Arc<str>]>,
    shapes: HashMap<usize, ShapeUse>,
    /// Shapes that want to be with or apart from other pods.
    with_affinity: Vec<usize>,
    images: HashMap<Arc<str>, ImageUse>,
    /// How many placed pods use a claim, by `namespace/name`.
    claims: HashMap<String, u32>,
}

fn identity(shape: &Arc<Shape>) -> usize {
    Arc::as_ptr(shape) as usize
}

impl Snapshot {
    /// Nodes by number, in the order a cycle tries them: zones take turns, names in order within a zone.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub fn node(&self, number: u32) -> Option<&NodeInfo> {
        self.nodes.get(number as usize)?.as_ref()
    }

    pub fn named(&self, name: &str) -> Option<&NodeInfo> {
        self.node(self.number(name)?)
    }

    pub fn number(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// By node number; never 0, and never the same again once the node or its pods have changed.
    #[inline]
    pub fn generations(&self) -> &[u64] {
        &self.generations
    }

    pub fn now(&self) -> Moment {
        self.journal.now()
    }

    /// The pods that came and went since then; `None` if that is no longer known, or nodes changed.
    pub fn since(&self, then: Moment) -> Option<impl Iterator<Item = &PodChange>> {
        self.journal.since(then)
    }

    /// The node, or what is on it, is no longer what it was.
    fn touch(&mut self, number: u32) {
        let at = number as usize;
        if self.generations.len() <= at {
            self.generations.resize(at + 1, 0);
        }
        self.generation += 1;
        self.generations[at] = self.generation;
    }

    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.order.iter().filter_map(|n| self.node(*n))
    }

    /// The nodes by the value of a label; there once someone has [asked](Self::need_topology) for it.
    pub fn topology(&self, key: &str) -> Option<&Topology> {
        self.topologies.get(self.topology_number(key)?)
    }

    /// The number of that grouping, by which [`NodeInfo::domain`] finds a node's value fast.
    pub fn topology_number(&self, key: &str) -> Option<usize> {
        self.topology_keys.iter().position(|k| k.as_ref() == key)
    }

    /// The pods placed, grouped by shape.
    pub fn shapes(&self) -> impl Iterator<Item = &ShapeUse> {
        self.shapes.values()
    }

    /// Of the [shapes](Self::shapes), those with affinity to pods.
    pub fn shapes_with_affinity(&self) -> impl Iterator<Item = &ShapeUse> {
        self.with_affinity.iter().filter_map(|id| self.shapes.get(id))
    }

    pub fn image(&self, name: &str) -> Option<&ImageUse> {
        self.images.get(name)
    }

    /// How many placed pods use the claim.
    pub fn claim_users(&self, namespace: &str, claim: &str) -> u32 {
        if self.claims.is_empty() {
            return 0;
        }
        self.claims.get(&format!("{namespace}/{claim}")).copied().unwrap_or(0)
    }

    /// Groups nodes by this label from now on.
    pub fn need_topology(&mut self, key: &Arc<str>) {
        if self.topology_number(key).is_some() {
            return;
        }
        self.journal.nodes();
        self.topology_keys = self.topology_keys.iter().chain([key]).cloned().collect();
        let mut topology = Topology::default();
        for info in self.nodes.iter_mut().flatten() {
            topology.set(info.number, info.labels().get(&**key).map(String::as_str));
            info.domains.push(topology.value(info.number));
            info.topology_keys = self.topology_keys.clone();
        }
        self.topologies.push(topology);
    }

    /// Brings the order of nodes up to date. Before every cycle.
    pub fn settle(&mut self) {
        if !std::mem::take(&mut self.order_is_stale) {
            return;
        }
        let mut zones: BTreeMap<(&str, &str), Vec<(&str, u32)>> = BTreeMap::new();
        for info in self.nodes.iter().flatten() {
            let label = |key: &str| info.labels().get(key).map_or("", String::as_str);
            let zone = zones.entry((label(REGION), label(ZONE))).or_default();
            zone.push((&info.name, info.number));
        }
        for zone in zones.values_mut() {
            zone.sort_unstable();
        }
        let longest = zones.values().map(Vec::len).max().unwrap_or(0);
        let turns = (0..longest).flat_map(|turn| zones.values().filter_map(move |zone| Some(zone.get(turn)?.1)));
        self.order = turns.collect();
    }

    /// A node was added or changed. Its pods are not touched.
    pub(crate) fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let number = match self.by_name.get(name) {
            Some(number) => *number,
            None => self
                .free
                .pop()
                .unwrap_or(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)),
        };
        let at = number as usize;
        if self.nodes.len() <= at {
            self.nodes.resize_with(at + 1, || None);
        }
        match &mut self.nodes[at] {
            Some(info) if !decides(&info.node, &node) => {
                // A heartbeat.
                info.node = node;
                return;
            }
            Some(info) => {
                let zone = |node: &Node, key| node.metadata.labels.as_ref()?.get(key).cloned();
                self.order_is_stale |= [ZONE, REGION].iter().any(|k| zone(&info.node, *k) != zone(&node, *k));
                if images(&info.node) != images(&node) {
                    forget_images(&mut self.images, number, &info.node);
                    learn_images(&mut self.images, number, &node);
                }
                info.set_node(node);
            }
            empty => {
                self.order_is_stale = true;
                learn_images(&mut self.images, number, &node);
                let info = empty.insert(NodeInfo::new(node, number));
                self.by_name.insert(info.name.clone(), number);
            }
        }
        self.touch(number);
        self.journal.nodes();
        if let Some(info) = &mut self.nodes[at] {
            info.topology_keys = self.topology_keys.clone();
            info.domains.clear();
            for (key, topology) in self.topology_keys.iter().zip(&mut self.topologies) {
                let labels = info.node.metadata.labels.as_ref();
                topology.set(number, labels.and_then(|l| l.get(&**key)).map(String::as_str));
                info.domains.push(topology.value(number));
            }
        }
    }

    /// The node is gone, and with it its pods, which are handed back.
    pub(crate) fn remove_node(&mut self, name: &str) -> Vec<PodInfo> {
        let Some(number) = self.by_name.get(name).copied() else {
            return Vec::new();
        };
        let pods = self.node(number).map(|n| n.pods.clone()).unwrap_or_default();
        for pod in &pods {
            self.remove_pod(name, pod.uid());
        }
        self.by_name.remove(name);
        if let Some(info) = self.nodes[number as usize].take() {
            forget_images(&mut self.images, number, &info.node);
        }
        for topology in &mut self.topologies {
            topology.set(number, None);
        }
        self.free.push(number);
        self.touch(number);
        self.journal.nodes();
        self.order_is_stale = true;
        pods
    }

    /// Puts the pod on a node; `false` if there is no such node.
    pub(crate) fn add_pod(&mut self, node: &str, pod: PodInfo) -> bool {
        let Some(number) = self.by_name.get(node).copied() else {
            return false;
        };
        let Some(Some(info)) = self.nodes.get_mut(number as usize) else {
            return false;
        };
        let terminating = u32::from(pod.is_terminating());
        let id = identity(&pod.shape);
        for claim in pod.claims() {
            let key = format!("{}/{}", pod.namespace(), claim.name());
            *self.claims.entry(key).or_default() += 1;
        }
        info.add_pod(pod.clone());
        self.touch(number);
        self.journal.pod(number, pod.clone(), 1);
        let mut is_new = false;
        let shape = self.shapes.entry(id).or_insert_with(|| {
            is_new = true;
            ShapeUse {
                shape: pod.shape.clone(),
                shares: Vec::new(),
            }
        });
        match shape.shares.binary_search_by_key(&number, |s| s.node) {
            Ok(at) => {
                shape.shares[at].pods += 1;
                shape.shares[at].terminating += terminating;
            }
            Err(at) => shape.shares.insert(
                at,
                Share {
                    node: number,
                    pods: 1,
                    terminating,
                },
            ),
        }
        if is_new && pod.shape.has_pod_affinity() {
            self.with_affinity.push(id);
            for term in pod.shape.pod_affinity_terms() {
                self.need_topology(&term.topology_key);
            }
        }
        true
    }

    /// Takes a newer object of a pod that is there; hands it back if it is not.
    pub(crate) fn renew_pod(&mut self, node: &str, pod: PodInfo) -> Option<PodInfo> {
        let Some(number) = self.number(node) else {
            return Some(pod);
        };
        let info = self.nodes.get_mut(number as usize).and_then(Option::as_mut);
        let known = info.and_then(|i| i.pods.iter_mut().find(|p| p.uid() == pod.uid()));
        match known {
            Some(known) => {
                *known = pod;
                self.touch(number);
                None
            }
            None => Some(pod),
        }
    }

    pub(crate) fn remove_pod(&mut self, node: &str, uid: &str) -> Option<PodInfo> {
        let number = self.by_name.get(node).copied()?;
        let pod = self.nodes.get_mut(number as usize)?.as_mut()?.remove_pod(uid)?;
        self.touch(number);
        self.journal.pod(number, pod.clone(), -1);
        for claim in pod.claims() {
            let key = format!("{}/{}", pod.namespace(), claim.name());
            if let Some(users) = self.claims.get_mut(&key) {
                *users -= 1;
                if *users == 0 {
                    self.claims.remove(&key);
                }
            }
        }
        let id = identity(&pod.shape);
        if let Some(shape) = self.shapes.get_mut(&id)
            && let Ok(at) = shape.shares.binary_search_by_key(&number, |s| s.node)
        {
            shape.shares[at].pods -= 1;
            shape.shares[at].terminating -= u32::from(pod.is_terminating());
            if shape.shares[at].pods == 0 {
                shape.shares.remove(at);
            }
            if shape.shares.is_empty() {
                self.shapes.remove(&id);
                self.with_affinity.retain(|other| *other != id);
            }
        }
        Some(pod)
    }
}

/// Whether anything about the node changed that decides about placement.
fn decides(old: &Node, new: &Node) -> bool {
    NodeChange::between(old, new).is_any() || images(old) != images(new)
}

/// The images on a node, each with its names.
fn images(node: &Node) -> &[k8s_openapi::api::core::v1::ContainerImage] {
    node.status
        .as_ref()
        .and_then(|s| s.images.as_deref())
        .unwrap_or_default()
}

fn learn_images(known: &mut HashMap<Arc<str>, ImageUse>, number: u32, node: &Node) {
    for image in images(node) {
        for name in image.names.iter().flatten() {
            let entry = known.entry(name.as_str().into()).or_default();
            let size = image.size_bytes.unwrap_or(0);
            match entry.nodes.binary_search_by_key(&number, |(n, _)| *n) {
                Ok(at) => entry.nodes[at].1 = size,
                Err(at) => entry.nodes.insert(at, (number, size)),
            }
        }
    }
}

fn forget_images(known: &mut HashMap<Arc<str>, ImageUse>, number: u32, node: &Node) {
    for name in images(node).iter().flat_map(|i| i.names.iter().flatten()) {
        if let Some(entry) = known.get_mut(name.as_str()) {
            entry.nodes.retain(|(n, _)| *n != number);
            if entry.nodes.is_empty() {
                known.remove(name.as_str());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::json;

    #[test]
    fn zones_take_turns_in_the_order_of_nodes() {
        let mut snapshot = Snapshot::default();
        for (name, zone) in [("n1", "b"), ("n2", "a"), ("n3", "a"), ("n4", "a")] {
            snapshot.set_node(node(name, json!({ZONE: zone}), json!({})));
        }
        snapshot.settle();
        let names: Vec<_> = snapshot.nodes().map(|n| n.name.to_string()).collect();
        assert_eq!(names, ["n2", "n1", "n3", "n4"]);
    }

    #[test]
    fn taking_away_all_that_was_put_in_leaves_nothing() {
        let mut snapshot = Snapshot::default();
        let zone: Arc<str> = ZONE.into();
        snapshot.need_topology(&zone);
        snapshot.set_node(node(
            "n1",
            json!({ZONE: "a"}),
            json!({"images": [{"names": ["web:v1"], "sizeBytes": 5}]}),
        ));
        let mut spec = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}]}}});
        assert!(snapshot.add_pod("n1", pod("a", spec.clone())));
        spec["volumes"] = json!([]);
        assert!(snapshot.add_pod("n1", pod("b", spec)));
        assert!(!snapshot.add_pod("n2", pod("c", json!({}))));
        assert_eq!(snapshot.claim_users("default", "data"), 1);
        assert_eq!(snapshot.shapes_with_affinity().count(), 2);
        assert!(snapshot.topology("kubernetes.io/hostname").is_some());
        assert_eq!(snapshot.image("web:v1").unwrap().nodes, [(0, 5)]);

        assert_eq!(snapshot.remove_node("n1").len(), 2);
        snapshot.settle();
        assert!(snapshot.is_empty() && snapshot.order().is_empty());
        assert_eq!(snapshot.claim_users("default", "data"), 0);
        assert_eq!(snapshot.shapes().count() + snapshot.shapes_with_affinity().count(), 0);
        assert!(snapshot.image("web:v1").is_none());
        assert!(snapshot.topology(ZONE).unwrap().is_empty());
    }
}
