//! What the scheduler knows of the cluster: nodes with the pods on them, including pods it has placed whose binding
//! has not come back from the API yet (assumed pods).
//!
//! The cache is changed in place as events arrive, so a scheduling cycle never copies the cluster.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::resources::{Resources, parse, pod_assumed_use, pod_requests};

/// A pod with what the cycle asks of it again and again.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub requests: Arc<Resources>,
    pub assumed_use: Arc<Resources>,
    /// (host IP, protocol, port) that the pod's containers claim on its node.
    pub host_ports: Arc<[(String, String, i32)]>,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> Self {
        let requests = Arc::new(pod_requests(&pod));
        let assumed_use = Arc::new(pod_assumed_use(&pod));
        let host_ports = host_ports(&pod).into();
        Self {
            pod,
            requests,
            assumed_use,
            host_ports,
        }
    }

    pub fn key(&self) -> String {
        key(&self.pod.metadata)
    }

    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn priority(&self) -> i32 {
        self.pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0)
    }
}

/// `namespace/name`.
pub fn key(meta: &ObjectMeta) -> String {
    format!(
        "{}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    )
}

fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut out = Vec::new();
    for port in spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
    {
        if let Some(host_port) = port.host_port.filter(|p| *p > 0) {
            let ip = port
                .host_ip
                .clone()
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| "0.0.0.0".into());
            out.push((ip, port.protocol.clone().unwrap_or_else(|| "TCP".into()), host_port));
        }
    }
    out
}

/// A node and what runs on it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub name: Arc<str>,
    pub allocatable: Resources,
    pub allowed_pods: i64,
    pub requested: Resources,
    pub assumed_use: Resources,
    /// By uid.
    pub pods: HashMap<String, PodInfo>,
}

impl NodeInfo {
    fn set_node(&mut self, node: Arc<Node>) {
        let listed = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
        self.allocatable = listed.map(Resources::parse).unwrap_or_default();
        self.allowed_pods = listed.and_then(|l| l.get("pods")).map_or(0, |q| parse(q).value());
        self.node = node;
    }

    fn add(&mut self, pod: PodInfo) {
        self.requested.add(&pod.requests);
        self.assumed_use.add(&pod.assumed_use);
        self.pods.insert(pod.uid().to_owned(), pod);
    }

    fn remove(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(uid) {
            self.requested.subtract(&pod.requests);
            self.assumed_use.subtract(&pod.assumed_use);
        }
    }
}

/// All nodes, in order of name: the same inputs give the same placement.
#[derive(Debug, Default)]
pub struct Cache {
    nodes: BTreeMap<Arc<str>, NodeInfo>,
    /// Which node each known pod is on, by uid.
    places: HashMap<String, (Arc<str>, Place)>,
    /// Pods on nodes that are not known (yet).
    stranded: HashMap<Arc<str>, HashMap<String, PodInfo>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Placed by this scheduler; the API has not confirmed it.
    Assumed,
    Bound,
}

impl Cache {
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name)
    }

    /// A node was added or changed.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name: Arc<str> = node.metadata.name.as_deref().unwrap_or_default().into();
        let stranded = self.stranded.remove(&name);
        let info = self.nodes.entry(name.clone()).or_insert_with(|| NodeInfo {
            node: node.clone(),
            name,
            allocatable: Resources::default(),
            allowed_pods: 0,
            requested: Resources::default(),
            assumed_use: Resources::default(),
            pods: HashMap::new(),
        });
        info.set_node(node);
        for pod in stranded.into_iter().flat_map(HashMap::into_values) {
            info.add(pod);
        }
    }

    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.remove(name)
            && !info.pods.is_empty()
        {
            self.stranded.insert(info.name, info.pods);
        }
    }

    /// The API says that the pod is on `node`.
    pub fn set_pod(&mut self, pod: PodInfo, node: &str) {
        self.place(pod, node, Place::Bound);
    }

    /// The scheduler has chosen `node`; until the API confirms or the binding fails, the pod counts there.
    pub fn assume(&mut self, pod: PodInfo, node: &str) {
        self.place(pod, node, Place::Assumed);
    }

    /// The binding failed: the pod is nowhere. A pod that the API has confirmed stays.
    pub fn forget(&mut self, uid: &str) {
        if matches!(self.places.get(uid), Some((_, Place::Assumed))) {
            self.remove_pod(uid);
        }
    }

    pub fn is_placed(&self, uid: &str) -> bool {
        self.places.contains_key(uid)
    }

    fn place(&mut self, pod: PodInfo, node: &str, place: Place) {
        self.remove_pod(pod.uid());
        let node: Arc<str> = node.into();
        self.places.insert(pod.uid().to_owned(), (node.clone(), place));
        match self.nodes.get_mut(&node) {
            Some(info) => info.add(pod),
            None => {
                self.stranded.entry(node).or_default().insert(pod.uid().to_owned(), pod);
            }
        }
    }

    pub fn remove_pod(&mut self, uid: &str) {
        let Some((node, _)) = self.places.remove(uid) else {
            return;
        };
        if let Some(info) = self.nodes.get_mut(&node) {
            info.remove(uid);
        } else if let Some(pods) = self.stranded.get_mut(&node) {
            pods.remove(uid);
            if pods.is_empty() {
                self.stranded.remove(&node);
            }
        }
    }
}
