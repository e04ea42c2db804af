//! NodeUnschedulable: a cordoned node takes only pods that tolerate its taint.

use coracle_api::placement::tolerates;
use k8s_openapi::api::core::v1::{Node, Taint};

use crate::event::ClusterEvent;
use crate::framework::{CycleState, Plugin, Point, Rejection, Reuse};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;

pub struct NodeUnschedulable;

fn tolerates_cordon(pod: &PodInfo) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    pod.shape.tolerations().iter().any(|own| tolerates(own, &taint))
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn reuse(&self, _pod: &PodInfo) -> Reuse {
        Reuse::Node
    }

    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if !node.is_unschedulable || tolerates_cordon(pod) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) were unschedulable"))
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        let open = |n: &Node| !n.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false);
        event.node().is_some_and(|n| open(n) || tolerates_cordon(pod))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node_with_spec, pod};
    use serde_json::json;

    #[test]
    fn a_cordoned_node_takes_only_those_that_tolerate_it() {
        let tolerant = json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]});
        for (cordoned, spec, fits) in [
            (false, json!({}), true),
            (true, json!({}), false),
            (true, tolerant, true),
        ] {
            let node = NodeInfo::new(node_with_spec("n", json!({}), json!({"unschedulable": cordoned})), 0);
            let verdict = NodeUnschedulable.filter(&CycleState::default(), &pod("a", spec), &node);
            assert_eq!(verdict.is_ok(), fits);
        }
    }

    #[test]
    fn uncordoning_wakes_and_cordoning_does_not() {
        let node = |cordoned: bool| node_with_spec("n", json!({}), json!({"unschedulable": cordoned}));
        let event = |old, new| ClusterEvent::of_node(&node(old), &node(new)).unwrap();
        assert!(NodeUnschedulable.may_help(&event(true, false), &pod("a", json!({}))));
        assert!(!NodeUnschedulable.may_help(&event(false, true), &pod("a", json!({}))));
    }
}
