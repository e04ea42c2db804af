//! Objects as the rows look at them: the few fields that say how far a pod, a workload or a node is.

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub name: String,
    pub generation: i64,
    pub deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: Meta,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
}

impl Pod {
    /// Empty until it is bound.
    pub fn node(&self) -> &str {
        &self.spec.node_name
    }

    pub fn is_bound(&self) -> bool {
        !self.spec.node_name.is_empty()
    }

    pub fn is_running(&self) -> bool {
        self.status.phase == "Running"
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Deployment {
    metadata: Meta,
    status: DeploymentStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeploymentStatus {
    observed_generation: i64,
    replicas: u32,
    updated_replicas: u32,
    available_replicas: u32,
}

impl Deployment {
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Every pod is of the newest template and available, and no other is left.
    pub fn is_rolled_out(&self, replicas: u32) -> bool {
        let status = &self.status;
        let all = [status.replicas, status.updated_replicas, status.available_replicas];
        status.observed_generation == self.metadata.generation && all.iter().all(|n| *n == replicas)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Job {
    pub metadata: Meta,
    status: Conditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    conditions: Vec<Condition>,
}

impl Job {
    pub fn is_complete(&self) -> bool {
        self.has("Complete")
    }

    pub fn has_failed(&self) -> bool {
        self.has("Failed")
    }

    fn has(&self, kind: &str) -> bool {
        self.status
            .conditions
            .iter()
            .any(|c| c.kind == kind && c.status == "True")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    pub metadata: Meta,
    spec: NodeSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    taints: Vec<Taint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Taint {
    key: String,
}

impl Node {
    pub fn is_tainted(&self) -> bool {
        !self.spec.taints.is_empty()
    }

    pub fn is_unreachable(&self) -> bool {
        self.spec
            .taints
            .iter()
            .any(|t| t.key == "node.kubernetes.io/unreachable")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_rolled_out_when_its_status_is_of_its_newest_generation() {
        let deployment = |observed: i64, updated: u32| -> Deployment {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "d", "generation": 2, "labels": {}},
                "status": {"observedGeneration": observed, "replicas": 3, "updatedReplicas": updated, "availableReplicas": 3},
            }))
            .unwrap()
        };
        assert!(deployment(2, 3).is_rolled_out(3));
        assert!(!deployment(1, 3).is_rolled_out(3));
        assert!(!deployment(2, 2).is_rolled_out(3));
        assert!(!deployment(2, 3).is_rolled_out(4));
    }

    #[test]
    fn an_object_without_a_status_is_at_its_beginning() {
        let pod: Pod = serde_json::from_str(r#"{"metadata":{"name":"a"},"spec":{}}"#).unwrap();
        assert!(!pod.is_bound() && !pod.is_running());
        let job: Job = serde_json::from_str(r#"{"metadata":{"name":"a"}}"#).unwrap();
        assert!(!job.is_complete() && !job.has_failed());
    }

    #[test]
    fn a_lost_node_is_known_by_its_taint() {
        let node = |key: &str| -> Node {
            serde_json::from_value(serde_json::json!({"spec": {"taints": [{"key": key, "effect": "NoExecute"}]}}))
                .unwrap()
        };
        assert!(node("node.kubernetes.io/unreachable").is_unreachable());
        assert!(!node("node.kubernetes.io/not-ready").is_unreachable());
        assert!(node("x").is_tainted());
    }
}
