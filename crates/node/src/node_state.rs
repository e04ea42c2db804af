//! What holds for the node as a whole, told by those who find it out to those who must heed it; and whether a new pod may
//! start under it.

use std::collections::BTreeSet;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use tokio::sync::watch;

use crate::allocation::Refusal;
use crate::eviction::rank::is_critical;
use crate::eviction::threshold::Pressure;
use crate::pod::resources::Qos;

pub(crate) struct NodeState {
    pub(crate) pressures: watch::Sender<BTreeSet<Pressure>>,
    /// The machine goes down: pods are being ended and none starts.
    pub(crate) shutting_down: watch::Sender<bool>,
    /// The uid of the node's object; empty until there is one.
    pub(crate) uid: watch::Sender<String>,
    /// The node's object as it was told last; none before the first time.
    pub(crate) object: watch::Sender<Option<Arc<Node>>>,
}

impl Default for NodeState {
    fn default() -> Self {
        Self {
            pressures: watch::Sender::new(BTreeSet::new()),
            shutting_down: watch::Sender::new(false),
            uid: watch::Sender::new(String::new()),
            object: watch::Sender::new(None),
        }
    }
}

impl NodeState {
    /// Why the pod may not start now, as upstream says it.
    pub(crate) fn refuses(&self, pod: &Pod) -> Option<Refusal> {
        if *self.shutting_down.borrow() {
            return Some(Refusal {
                reason: "NodeShutdown".into(),
                message: "Pod was rejected as the node is shutting down.".into(),
            });
        }
        under_pressure(&self.pressures.borrow(), pod)
    }
}

fn under_pressure(pressures: &BTreeSet<Pressure>, pod: &Pod) -> Option<Refusal> {
    if pressures.is_empty() || is_critical(pod) {
        return None;
    }
    let memory_alone = pressures.iter().all(|p| *p == Pressure::Memory);
    if memory_alone && (Qos::of(pod) != Qos::BestEffort || tolerates_memory_pressure(pod)) {
        return None;
    }
    let names: Vec<&str> = pressures.iter().map(|p| p.name()).collect();
    Some(Refusal {
        reason: "Evicted".into(),
        message: format!("The node had condition: [{}]. ", names.join(" ")),
    })
}

fn tolerates_memory_pressure(pod: &Pod) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/memory-pressure".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    let tolerations = pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten());
    tolerations
        .into_iter()
        .any(|t| coracle_api::placement::tolerates(t, &taint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn under_pressure_only_pods_that_do_no_harm_start() {
        let best_effort = json!({"containers": [{"name": "c"}]});
        let burstable = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
        let mut tolerant = best_effort.clone();
        tolerant["tolerations"] = json!([{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]);
        let mut critical = best_effort.clone();
        critical["priority"] = json!(2_000_000_000);
        let memory: BTreeSet<_> = [Pressure::Memory].into();
        let disk: BTreeSet<_> = [Pressure::Disk, Pressure::Memory].into();
        for (pressures, spec, refused) in [
            (&BTreeSet::new(), &best_effort, false),
            (&memory, &best_effort, true),
            (&memory, &burstable, false),
            (&memory, &tolerant, false),
            (&disk, &burstable, true),
            (&disk, &critical, false),
        ] {
            assert_eq!(
                under_pressure(pressures, &pod(spec.clone())).is_some(),
                refused,
                "{pressures:?} {spec}"
            );
        }
        let refusal = under_pressure(&disk, &pod(best_effort)).unwrap();
        assert_eq!(
            refusal.message,
            "The node had condition: [DiskPressure MemoryPressure]. "
        );
    }

    #[test]
    fn no_pod_starts_while_the_node_shuts_down() {
        let state = NodeState::default();
        assert_eq!(state.refuses(&pod(json!({"containers": []}))), None);
        state.shutting_down.send_replace(true);
        let refusal = state
            .refuses(&pod(json!({"containers": [], "priority": 2_000_000_000})))
            .unwrap();
        assert_eq!(refusal.reason, "NodeShutdown");
    }
}
