//! NodeResourcesFit: requests must fit into what is left of allocatable; LeastAllocated scoring prefers emptier nodes.

use crate::cache::{NodeInfo, PodInfo};
use crate::framework::{ClusterEvent, CycleState, MAX_SCORE, Plugin, Rejection};
use crate::resources::Resources;

pub struct NodeResourcesFit;

/// Every resource of which the node has too little left, in upstream's words.
fn shortages(pod: &Resources, node: &NodeInfo) -> Vec<String> {
    let mut out = Vec::new();
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) + 1 > node.allowed_pods {
        out.push("Too many pods".to_owned());
    }
    let mut check = |name: &str, wanted: i64, has: i64, used: i64| {
        if wanted > 0 && wanted > has - used {
            out.push(format!("Insufficient {name}"));
        }
    };
    let (has, used) = (&node.allocatable, &node.requested);
    check("cpu", pod.milli_cpu, has.milli_cpu, used.milli_cpu);
    check("memory", pod.memory, has.memory, used.memory);
    check(
        "ephemeral-storage",
        pod.ephemeral_storage,
        has.ephemeral_storage,
        used.ephemeral_storage,
    );
    for (name, wanted) in &pod.scalar {
        check(name, *wanted, has.scalar(name), used.scalar(name));
    }
    out
}

fn least_allocated(has: i64, used: i64) -> Option<i64> {
    if has <= 0 {
        return None;
    }
    Some(if used > has { 0 } else { (has - used) * MAX_SCORE / has })
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let reasons = shortages(&pod.requests, node);
        if reasons.is_empty() {
            return Ok(());
        }
        // More than the node has in all: evicting others would not help.
        let (wanted, has) = (&pod.requests, &node.allocatable);
        let unresolvable = wanted.milli_cpu > has.milli_cpu
            || wanted.memory > has.memory
            || wanted.ephemeral_storage > has.ephemeral_storage
            || wanted.scalar.iter().any(|(name, amount)| *amount > has.scalar(name));
        Err(Rejection { reasons, unresolvable })
    }

    fn scores(&self) -> bool {
        true
    }

    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let (has, used, own) = (&node.allocatable, &node.assumed_use, &pod.assumed_use);
        let parts = [
            least_allocated(has.milli_cpu, used.milli_cpu + own.milli_cpu),
            least_allocated(has.memory, used.memory + own.memory),
        ];
        let counted: Vec<i64> = parts.into_iter().flatten().collect();
        if counted.is_empty() {
            0
        } else {
            counted.iter().sum::<i64>() / counted.len() as i64
        }
    }

    fn may_help(&self, event: &ClusterEvent<'_>, _pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) | ClusterEvent::PodGone(_) => true,
            ClusterEvent::NodeChanged { old, new } => {
                let allocatable =
                    |n: &k8s_openapi::api::core::v1::Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
                allocatable(old) != allocatable(new)
            }
            ClusterEvent::PodPlaced(_) => false,
        }
    }
}
