//! TaintToleration: NoSchedule and NoExecute taints turn pods down that do not tolerate them; nodes with fewer
//! untolerated PreferNoSchedule taints score higher.

use coracle_api::placement::{tolerates, untolerated};
use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

use crate::event::ClusterEvent;
use crate::framework::{CycleState, Plugin, Point, PreScore, Rejection, Reuse, normalize_to_max};
use crate::node_info::{NodeInfo, SOFT};
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

pub struct TaintToleration;

/// Effects that keep pods out.
const HARD: [&str; 2] = ["NoSchedule", "NoExecute"];

/// Are all taints that keep pods out tolerated?
pub fn admits(tolerations: &[Toleration], taints: &[Taint]) -> bool {
    untolerated(taints, tolerations, &HARD).is_none()
}

fn is_soft(taint: &Taint) -> bool {
    taint.effect == SOFT
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::PreScore, Point::Score]
    }

    fn reuse(&self, _pod: &PodInfo) -> Reuse {
        Reuse::Node
    }

    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let taints = node.taints();
        if taints.is_empty() || admits(pod.shape.tolerations(), taints) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) had untolerated taint(s)"))
    }

    fn pre_score(&self, _state: &mut CycleState, _pod: &PodInfo, nodes: &[&NodeInfo], _all: &Snapshot) -> PreScore {
        match nodes.iter().any(|n| n.has_soft_taints) {
            true => PreScore::Score,
            false => PreScore::Skip,
        }
    }

    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        if !node.has_soft_taints {
            return 0;
        }
        let soft = node.taints().iter().filter(|t| is_soft(t));
        let stays_away = |t: &&Taint| !pod.shape.tolerations().iter().any(|own| tolerates(own, t));
        i64::try_from(soft.filter(stays_away).count()).unwrap_or(i64::MAX)
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
            (json!({"key": "gpu", "value": "1", "effect": "PreferNoSchedule"}), false),
            (json!({"operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "gpu", "operator": "Exists", "effect": ""}), true),
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
    fn every_taint_that_keeps_out_must_be_tolerated_and_no_other_counts() {
        let taint = |key: &str, effect: &str| json!({"key": key, "value": "v", "effect": effect});
        let tolerated =
            |key: &str, effect: &str| json!({"key": key, "operator": "Equal", "value": "v", "effect": effect});
        let three = json!([
            taint("key1", "NoSchedule"),
            taint("key1", "NoExecute"),
            taint("key2", "NoSchedule")
        ]);
        let two = json!([tolerated("key1", "NoSchedule"), tolerated("key1", "NoExecute")]);
        let mut all = two.clone();
        all.as_array_mut().unwrap().push(tolerated("key2", ""));
        for (taints, tolerations, fits) in [
            (three.clone(), json!([]), false),
            // The documentation's example: the third one is not tolerated.
            (three.clone(), two, false),
            (three, all, true),
            (json!([taint("soft", "PreferNoSchedule")]), json!([]), true),
            // How long it is tolerated is for whoever evicts.
            (
                json!([taint("k", "NoExecute")]),
                json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 5}]),
                true,
            ),
        ] {
            let pod = pod("a", json!({"tolerations": tolerations}));
            let verdict = TaintToleration.filter(&CycleState::default(), &pod, &node(taints.clone()));
            assert_eq!(verdict.is_ok(), fits, "{taints} {tolerations}");
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

    #[test]
    fn soft_taints_are_counted_by_who_tolerates_just_them() {
        let soft = |key: &str| json!({"key": key, "effect": "PreferNoSchedule"});
        let hard = json!({"key": "hard", "effect": "NoSchedule"});
        let exists = |effect: &str| json!([{"key": "x", "operator": "Exists", "effect": effect}]);
        for (taints, tolerations, expected) in [
            // Alike, they cost all the same.
            ([json!([soft("x")]), json!([soft("y")])], json!([]), [0, 0]),
            ([json!([]), json!([])], json!([]), [100, 100]),
            // A toleration of another effect is none of this one.
            ([json!([soft("x")]), json!([])], exists("NoSchedule"), [0, 100]),
            ([json!([soft("x")]), json!([])], exists("PreferNoSchedule"), [100, 100]),
            ([json!([soft("x"), soft("y")]), json!([soft("y")])], exists(""), [0, 0]),
            // Those that keep out do not cost besides.
            (
                [json!([hard.clone(), soft("x")]), json!([soft("x")])],
                json!([]),
                [0, 0],
            ),
            ([json!([hard]), json!([soft("x")])], json!([]), [100, 0]),
        ] {
            let (pod, state) = (pod("a", json!({"tolerations": tolerations})), CycleState::default());
            let mut scores = [0, 1].map(|i| TaintToleration.score(&state, &pod, &node(taints[i].clone())));
            TaintToleration.normalize(&state, &[], &mut scores);
            assert_eq!(scores, expected, "{taints:?} {tolerations}");
        }
    }
}
