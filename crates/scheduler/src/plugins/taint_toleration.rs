//! TaintToleration: NoSchedule and NoExecute taints turn pods down that do not tolerate them; nodes with fewer
//! untolerated PreferNoSchedule taints score higher.

use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};

use crate::cache::{NodeInfo, PodInfo};
use crate::framework::{ClusterEvent, CycleState, Plugin, Rejection, normalize_to_max};

pub struct TaintToleration;

/// Does one toleration match the taint? An empty key with `Exists` matches all; an empty effect matches all effects.
fn matches(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let value = toleration.value.as_deref().unwrap_or_default();
    let taint_value = taint.value.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "" | "Equal" => !key.is_empty() && value == taint_value,
        "Exists" => true,
        "Lt" => compare(taint_value, value).is_some_and(std::cmp::Ordering::is_lt),
        "Gt" => compare(taint_value, value).is_some_and(std::cmp::Ordering::is_gt),
        _ => false,
    }
}

fn compare(left: &str, right: &str) -> Option<std::cmp::Ordering> {
    Some(left.parse::<i64>().ok()?.cmp(&right.parse::<i64>().ok()?))
}

/// Does the pod tolerate the taint?
pub fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    pod.spec
        .iter()
        .flat_map(|s| s.tolerations.iter().flatten())
        .any(|t| matches(t, taint))
}

fn taints(node: &NodeInfo) -> impl Iterator<Item = &Taint> {
    node.node.spec.iter().flat_map(|s| s.taints.iter().flatten())
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let hard = |t: &&Taint| t.effect == "NoSchedule" || t.effect == "NoExecute";
        match taints(node).filter(hard).find(|t| !tolerates(&pod.pod, t)) {
            None => Ok(()),
            Some(taint) => {
                let value = taint.value.as_deref().unwrap_or_default();
                Err(Rejection::unresolvable(format!(
                    "node(s) had untolerated taint {{{}: {value}}}",
                    taint.key
                )))
            }
        }
    }

    fn scores(&self) -> bool {
        true
    }

    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let soft = taints(node).filter(|t| t.effect == "PreferNoSchedule" && !tolerates(&pod.pod, t));
        i64::try_from(soft.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, _state: &CycleState, scores: &mut [i64]) {
        normalize_to_max(scores, true);
    }

    fn may_help(&self, event: &ClusterEvent<'_>, _pod: &PodInfo) -> bool {
        matches!(event, ClusterEvent::NodeAdded(_) | ClusterEvent::NodeChanged { .. })
    }
}
