//! NodeAffinity: `spec.nodeSelector` and required node affinity filter; preferred node affinity scores. A profile may add
//! an affinity of its own to every pod's.

use std::collections::BTreeSet;

use crate::event::ClusterEvent;
use crate::framework::{CycleState, Plugin, Point, PreFilter, PreScore, Rejection, Reuse, normalize_to_max};
use crate::node_info::NodeInfo;
use crate::node_selector::{NodeSelector, NodeWish};
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

#[derive(Default)]
pub struct NodeAffinity {
    /// What every pod of the profile must and may ask besides.
    added: NodeWish,
}

impl NodeAffinity {
    pub fn adding(affinity: Option<&k8s_openapi::api::core::v1::NodeAffinity>) -> Self {
        Self {
            added: NodeWish::of_affinity(affinity),
        }
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn reuse(&self, _pod: &PodInfo) -> Reuse {
        Reuse::Node
    }

    fn pre_filter(&self, _state: &mut CycleState, pod: &PodInfo, _snapshot: &Snapshot) -> Result<PreFilter, Rejection> {
        if pod.shape.node_wish.is_free() && self.added.is_free() {
            return Ok(PreFilter::Skip);
        }
        match pod.shape.node_wish.only_names() {
            Some(names) if names == BTreeSet::new() => Err(Rejection::unresolvable("pod affinity terms conflict")),
            Some(names) => Ok(PreFilter::Only(names)),
            None => Ok(PreFilter::All),
        }
    }

    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.added.matches(&node.node) {
            return Err(Rejection::unresolvable(
                "node(s) didn't match scheduler-enforced node affinity",
            ));
        }
        if !pod.shape.node_wish.matches(&node.node) {
            return Err(Rejection::unresolvable(
                "node(s) didn't match Pod's node affinity/selector",
            ));
        }
        Ok(())
    }

    fn pre_score(&self, _state: &mut CycleState, pod: &PodInfo, _nodes: &[&NodeInfo], _all: &Snapshot) -> PreScore {
        match pod.shape.node_wish.preferred.is_empty() && self.added.preferred.is_empty() {
            true => PreScore::Skip,
            false => PreScore::Score,
        }
    }

    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let preferred = pod.shape.node_wish.preferred.iter().chain(&self.added.preferred);
        let matching = preferred.filter(|(_, term)| term.matches(&node.node));
        matching.map(|(weight, _)| weight).sum()
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        normalize_to_max(scores, false);
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        event
            .node()
            .is_some_and(|n| self.added.matches(n) && pod.shape.node_wish.matches(n))
    }
}

/// The nodes that a volume can be used on, if it says.
pub fn volume_selector(volume: &k8s_openapi::api::core::v1::PersistentVolume) -> Option<NodeSelector> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
    affinity.required.as_ref().map(NodeSelector::parse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::json;

    #[test]
    fn what_the_profile_adds_is_asked_of_every_pod() {
        let zone = |v: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [v]}]});
        let affinity = json!({
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [zone("a")]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7, "preference": zone("a")}],
        });
        let plugin = NodeAffinity::adding(Some(&serde_json::from_value(affinity).unwrap()));
        let (inside, outside) = (
            NodeInfo::new(node("n1", json!({"zone": "a"}), json!({})), 0),
            NodeInfo::new(node("n2", json!({"zone": "b"}), json!({})), 1),
        );
        let (state, pod) = (CycleState::default(), pod("a", json!({})));
        assert_eq!(plugin.filter(&state, &pod, &inside), Ok(()));
        assert_eq!(
            plugin.filter(&state, &pod, &outside).unwrap_err().to_string(),
            "node(s) didn't match scheduler-enforced node affinity"
        );
        assert_eq!(
            (
                plugin.score(&state, &pod, &inside),
                plugin.score(&state, &pod, &outside)
            ),
            (7, 0)
        );
    }

    #[test]
    fn names_that_exclude_each_other_conflict_before_any_node_is_looked_at() {
        let named = |names: &[&str]| json!({"key": "metadata.name", "operator": "In", "values": names});
        let zone = json!({"key": "zone", "operator": "Exists"});
        for (terms, expected) in [
            (json!([{"matchFields": [named(&["n1"])]}]), Ok(Some(vec!["n1"]))),
            (
                json!([{"matchFields": [named(&["n1", "n2"]), named(&["n2"])]}]),
                Ok(Some(vec!["n2"])),
            ),
            (
                json!([{"matchFields": [named(&["n1"])]}, {"matchFields": [named(&["n2"])]}]),
                Ok(Some(vec!["n1", "n2"])),
            ),
            (
                json!([{"matchFields": [named(&["n1"])]}, {"matchExpressions": [zone]}]),
                Ok(None),
            ),
            (
                json!([{"matchFields": [named(&["n1"]), named(&["n2"])]}]),
                Err("pod affinity terms conflict"),
            ),
        ] {
            let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
            let pod = pod("a", json!({"affinity": {"nodeAffinity": required}}));
            let found = NodeAffinity::default().pre_filter(&mut CycleState::default(), &pod, &Snapshot::default());
            let found = found.map_err(|r| r.to_string()).map(|verdict| match verdict {
                PreFilter::Only(names) => Some(names.iter().map(|n| n.to_string()).collect::<Vec<_>>()),
                _ => None,
            });
            let expected = expected.map_err(str::to_owned);
            assert_eq!(
                found,
                expected.map(|names| names.map(|n| n.iter().map(|n| n.to_string()).collect())),
                "{terms}"
            );
        }
    }

    #[test]
    fn weights_of_preferences_that_match_add_up() {
        let key = |k: &str| json!({"matchExpressions": [{"key": k, "operator": "Exists"}]});
        let preferred = json!([{"weight": 10, "preference": key("x")}, {"weight": 30, "preference": key("y")}]);
        let pod = pod(
            "a",
            json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}),
        );
        let (plugin, state) = (NodeAffinity::default(), CycleState::default());
        let labels = [json!({}), json!({"x": ""}), json!({"y": ""}), json!({"x": "", "y": ""})];
        let mut scores = labels.map(|l| plugin.score(&state, &pod, &NodeInfo::new(node("n", l, json!({})), 0)));
        assert_eq!(scores, [0, 10, 30, 40]);
        plugin.normalize(&state, &[], &mut scores);
        assert_eq!(scores, [0, 25, 75, 100]);
    }
}
