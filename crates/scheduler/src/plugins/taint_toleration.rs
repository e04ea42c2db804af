//! TaintToleration: NoSchedule and NoExecute taints turn pods down that do not tolerate them; nodes with fewer
//! untolerated PreferNoSchedule taints score higher.

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

use crate::event::ClusterEvent;
use crate::framework::{CycleState, Plugin, Point, PreScore, Rejection, normalize_to_max};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

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

/// Is the taint tolerated?
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| matches(t, taint))
}

/// Are all taints that keep pods out tolerated?
pub fn admits(tolerations: &[Toleration], taints: &[Taint]) -> bool {
    let hard = |t: &&Taint| t.effect == "NoSchedule" || t.effect == "NoExecute";
    taints.iter().filter(hard).all(|t| tolerates(tolerations, t))
}

fn is_soft(taint: &Taint) -> bool {
    taint.effect == "PreferNoSchedule"
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::PreScore, Point::Score]
    }

    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let taints = node.taints();
        if taints.is_empty() || admits(pod.shape.tolerations(), taints) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) had untolerated taint(s)"))
    }

    fn pre_score(&self, _state: &mut CycleState, _pod: &PodInfo, nodes: &[&NodeInfo], _all: &Snapshot) -> PreScore {
        match nodes.iter().any(|n| n.taints().iter().any(is_soft)) {
            true => PreScore::Score,
            false => PreScore::Skip,
        }
    }

    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let soft = node.taints().iter().filter(|t| is_soft(t));
        let untolerated = soft.filter(|t| !tolerates(pod.shape.tolerations(), t)).count();
        i64::try_from(untolerated).unwrap_or(i64::MAX)
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        normalize_to_max(scores, true);
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        let taints = |n: &Node| n.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
        event
            .node()
            .is_some_and(|n| admits(pod.shape.tolerations(), &taints(n)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node_with_spec, pod};
    use serde_json::{Value, json};

    fn node(taints: Value) -> NodeInfo {
        NodeInfo::new(node_with_spec("n", json!({}), json!({"taints": taints})), 0)
    }

    #[test]
    fn a_toleration_matches_by_key_operator_value_and_effect() {
        let taint = json!([{"key": "gpu", "value": "1", "effect": "NoSchedule"}]);
        for (toleration, fits) in [
            (json!({"key": "gpu", "value": "1", "effect": "NoSchedule"}), true),
            (json!({"key": "gpu", "value": "1"}), true),
            (json!({"key": "gpu", "value": "2"}), false),
            (json!({"key": "gpu", "operator": "Exists"}), true),
            (json!({"operator": "Exists"}), true),
            (
                json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}),
                false,
            ),
            (json!({"key": "other", "operator": "Exists"}), false),
            (json!({"key": "gpu", "operator": "Lt", "value": "2"}), true),
            (json!({"key": "gpu", "operator": "Gt", "value": "2"}), false),
            (json!({"key": "gpu", "operator": "Gt", "value": "many"}), false),
        ] {
            let pod = pod("a", json!({"tolerations": [toleration]}));
            let verdict = TaintToleration.filter(&CycleState::default(), &pod, &node(taint.clone()));
            assert_eq!(verdict.is_ok(), fits, "{toleration}");
        }
    }

    #[test]
    fn soft_taints_keep_nobody_out_but_cost_points() {
        let soft = |key: &str| json!({"key": key, "effect": "PreferNoSchedule"});
        let nodes = [
            node(json!([])),
            node(json!([soft("x")])),
            node(json!([soft("x"), soft("y")])),
            node(json!([soft("tolerated")])),
        ];
        let pod = pod(
            "a",
            json!({"tolerations": [{"key": "tolerated", "operator": "Exists"}]}),
        );
        let state = CycleState::default();
        let mut scores: Vec<i64> = nodes.iter().map(|n| TaintToleration.score(&state, &pod, n)).collect();
        TaintToleration.normalize(&state, &[], &mut scores);
        assert_eq!(scores, [100, 50, 0, 100]);
        assert!(nodes.iter().all(|n| TaintToleration.filter(&state, &pod, n).is_ok()));
    }
}
