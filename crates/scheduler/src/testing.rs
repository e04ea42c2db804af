//! Nodes and pods for this crate's tests and benchmark, written as short as they allow.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn typed<T: serde::de::DeserializeOwned + Default>(value: Value) -> T {
    let problem = value.to_string();
    serde_json::from_value(value).unwrap_or_else(|error| {
        debug_assert!(false, "{error}: {problem}");
        T::default()
    })
}

/// A node of 4 CPUs, 32Gi and room for 110 pods; `status` is merged into its status. It has its hostname label.
pub fn node(name: &str, labels: Value, status: Value) -> Arc<Node> {
    let mut whole = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}},
    });
    merge(&mut whole["metadata"]["labels"], labels);
    merge(&mut whole["status"], status);
    Arc::new(typed(whole))
}

/// A node as [`node`] makes it, with this spec.
pub fn node_with_spec(name: &str, labels: Value, spec: Value) -> Arc<Node> {
    let mut node = (*node(name, labels, json!({}))).clone();
    node.spec = Some(typed(spec));
    Arc::new(node)
}

/// A pod in namespace `default` of one container, whose uid is its name; `spec` is merged into its spec.
pub fn pod(name: &str, spec: Value) -> PodInfo {
    pod_with(name, json!({"spec": spec}))
}

/// As [`pod`]; `whole` is merged into all of it.
pub fn pod_with(name: &str, whole: Value) -> PodInfo {
    let mut out = json!({
        "metadata": {"namespace": "default", "name": name, "uid": name},
        "spec": {"containers": [{"name": "c", "image": "web:v1"}]},
    });
    merge(&mut out, whole);
    let pod: Pod = typed(out);
    PodInfo::new(Arc::new(pod))
}

/// A pod that requests CPU and memory.
pub fn pod_requesting(name: &str, cpu: &str, memory: &str, whole: Value) -> PodInfo {
    let requests = json!({"cpu": cpu, "memory": memory});
    let mut out =
        json!({"spec": {"containers": [{"name": "c", "image": "web:v1", "resources": {"requests": requests}}]}});
    merge(&mut out, whole);
    pod_with(name, out)
}

/// Nodes of 4 CPUs with these pods on them.
pub fn cluster(nodes: &[(&str, Vec<PodInfo>)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, pods) in nodes {
        snapshot.set_node(node(name, json!({}), json!({})));
        for pod in pods {
            let known = snapshot.add_pod(name, pod.clone());
            debug_assert!(known, "no node {name}");
        }
    }
    snapshot.settle();
    snapshot
}
