//! NodeName: a pod that names its node fits on no other.

use crate::event::ClusterEvent;
use crate::framework::{CycleState, Plugin, Point, Rejection, Reuse};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;

pub struct NodeName;

fn wanted(pod: &PodInfo) -> &str {
    let spec = pod.pod.spec.as_ref();
    spec.and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn reuse(&self, pod: &PodInfo) -> Reuse {
        match wanted(pod).is_empty() {
            true => Reuse::Node,
            false => Reuse::Nothing,
        }
    }

    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let wanted = wanted(pod);
        if wanted.is_empty() || wanted == node.name.as_ref() {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        matches!(event, ClusterEvent::NodeAdded(node) if node.metadata.name.as_deref() == Some(wanted(pod)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::json;

    #[test]
    fn a_pod_that_names_its_node_fits_there_alone_and_any_other_anywhere() {
        for (named, fits) in [(None, true), (Some("n"), true), (Some("m"), false)] {
            let pod = pod("a", json!({"nodeName": named}));
            let info = NodeInfo::new(node("n", json!({}), json!({})), 0);
            assert_eq!(
                NodeName.filter(&CycleState::default(), &pod, &info).is_ok(),
                fits,
                "{named:?}"
            );
            let added = ClusterEvent::NodeAdded(info.node);
            assert_eq!(NodeName.may_help(&added, &pod), named == Some("n"), "{named:?}");
        }
    }
}
