//! NodeResourcesBalancedAllocation: prefers nodes whose resources the pod would bring to be used in like proportion, and not
//! those that are so without it.

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

type Fractions = SmallVec<[f64; 4]>;

fn balance(fractions: &[f64]) -> i64 {
    ((1.0 - deviation(fractions)) * MAX_SCORE as f64) as i64
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

    /// 75 where the pod changes nothing; 50 is where it does the most harm, and 100 where it does the most good.
    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let (mut with, mut without) = (Fractions::new(), Fractions::new());
        for resource in &self.resources {
            if let Some((has, used)) = use_of(node, pod, &resource.name, false) {
                let before = used - amount(&pod.shape.requests, &resource.name);
                with.push((used as f64 / has as f64).min(1.0));
                without.push((before as f64 / has as f64).min(1.0));
            }
        }
        MAX_SCORE / 2 + (MAX_SCORE / 2 + balance(&with) - balance(&without)) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod, pod_requesting};
    use serde_json::json;

    #[test]
    fn what_makes_proportions_alike_scores_high_and_what_unbalances_them_low() {
        let plugin = NodeResourcesBalancedAllocation::default();
        for (what, there, new, expected) in [
            ("in proportion to an empty node", ("0", "0"), ("2", "4Gi"), 75),
            ("all of both", ("0", "0"), ("4", "8Gi"), 75),
            ("more than there is counts as all", ("0", "0"), ("8", "16Gi"), 75),
            ("a quarter too much of one", ("0", "0"), ("4", "4Gi"), 62),
            ("all of one and nothing of the other", ("0", "0"), ("4", "0"), 50),
            ("what is out of balance and stays so", ("2", "0"), ("1", "2Gi"), 75),
            ("what was lacking", ("2", "0"), ("0", "4Gi"), 87),
            ("all that was lacking", ("4", "0"), ("0", "8Gi"), 100),
            ("more of what there is too much of", ("2", "0"), ("2", "0"), 62),
        ] {
            let status = json!({"allocatable": {"cpu": "4", "memory": "8Gi"}});
            let mut node = NodeInfo::new(node("n", json!({}), status), 0);
            node.add_pod(pod_requesting("there", there.0, there.1, json!({})));
            let pod = pod_requesting("new", new.0, new.1, json!({}));
            assert_eq!(plugin.score(&CycleState::default(), &pod, &node), expected, "{what}");
        }
    }

    #[test]
    fn a_resource_that_the_pod_does_not_ask_for_or_the_node_does_not_have_is_left_out() {
        let weighted = |name: &str| WeightedResource {
            name: name.to_owned(),
            weight: 1,
        };
        let plugin = NodeResourcesBalancedAllocation {
            resources: ["cpu", "memory", "example.com/gpu"].map(weighted).into(),
        };
        for (gpus, asked, expected) in [
            // 1/2, 1/2 and 1: a deviation of 0.236.
            ("4", "4", 63),
            ("0", "4", 75),
            ("4", "0", 75),
        ] {
            let allocatable = json!({"cpu": "4", "memory": "8Gi", "example.com/gpu": gpus});
            let node = NodeInfo::new(node("n", json!({}), json!({"allocatable": allocatable})), 0);
            let requests = json!({"cpu": "2", "memory": "4Gi", "example.com/gpu": asked});
            let new = json!({"containers": [{"name": "c", "resources": {"requests": requests}}]});
            assert_eq!(
                plugin.score(&CycleState::default(), &pod("new", new), &node),
                expected,
                "{asked} of {gpus}"
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
