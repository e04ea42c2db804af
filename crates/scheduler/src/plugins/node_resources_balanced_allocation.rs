//! NodeResourcesBalancedAllocation: prefers nodes whose resources would be used in like proportion.

use smallvec::SmallVec;

use super::resource_score::{WeightedResource, amount, use_of};
use crate::framework::{CycleState, MAX_SCORE, Plugin, Point, PreScore, Reuse};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

pub struct NodeResourcesBalancedAllocation {
    pub resources: Vec<WeightedResource>,
}

impl Default for NodeResourcesBalancedAllocation {
    fn default() -> Self {
        Self {
            resources: WeightedResource::cpu_and_memory(),
        }
    }
}

/// The standard deviation.
fn deviation(fractions: &[f64]) -> f64 {
    match fractions {
        [a, b] => (a - b).abs() / 2.0,
        [_, _, _, ..] => {
            let count = fractions.len() as f64;
            let mean = fractions.iter().sum::<f64>() / count;
            let squares: f64 = fractions.iter().map(|f| (f - mean) * (f - mean)).sum();
            (squares / count).sqrt()
        }
        _ => 0.0,
    }
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreScore, Point::Score]
    }

    fn reuse(&self, _pod: &PodInfo) -> Reuse {
        Reuse::Node
    }

    /// A pod that requests nothing would always go where it is balanced already, and with it all others like it.
    fn pre_score(&self, _state: &mut CycleState, pod: &PodInfo, _nodes: &[&NodeInfo], _all: &Snapshot) -> PreScore {
        let asks = |r: &WeightedResource| amount(&pod.shape.requests, &r.name) > 0;
        match self.resources.iter().any(asks) {
            true => PreScore::Score,
            false => PreScore::Skip,
        }
    }

    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let resources = self.resources.iter();
        let uses = resources.filter_map(|r| use_of(node, pod, &r.name, false));
        let fractions: SmallVec<[f64; 4]> = uses.map(|(has, used)| (used as f64 / has as f64).min(1.0)).collect();
        ((1.0 - deviation(&fractions)) * MAX_SCORE as f64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod, pod_requesting};
    use serde_json::json;

    #[test]
    fn like_proportions_score_highest() {
        let plugin = NodeResourcesBalancedAllocation::default();
        let node = NodeInfo::new(
            node("n", json!({}), json!({"allocatable": {"cpu": "4", "memory": "8Gi"}})),
            0,
        );
        for (cpu, memory, expected) in [("2", "4Gi", 100), ("4", "4Gi", 75), ("4", "0", 50), ("8", "8Gi", 100)] {
            let pod = pod_requesting("a", cpu, memory, json!({}));
            assert_eq!(
                plugin.score(&CycleState::default(), &pod, &node),
                expected,
                "{cpu} {memory}"
            );
        }
    }

    #[test]
    fn three_resources_take_the_standard_deviation() {
        assert!((deviation(&[0.0, 0.5, 1.0]) - 0.408).abs() < 0.001);
        assert!(deviation(&[0.7]) == 0.0 && deviation(&[]) == 0.0);
    }

    #[test]
    fn pods_that_request_nothing_are_not_scored() {
        let plugin = NodeResourcesBalancedAllocation::default();
        let snapshot = Snapshot::default();
        let mut state = CycleState::default();
        let best_effort = plugin.pre_score(&mut state, &pod("a", json!({})), &[], &snapshot);
        assert_eq!(best_effort, PreScore::Skip);
        let asking = pod_requesting("b", "1", "1Gi", json!({}));
        assert_eq!(plugin.pre_score(&mut state, &asking, &[], &snapshot), PreScore::Score);
    }
}
