//! NodeName: a pod that names its node fits on no other.

use crate::event::ClusterEvent;
use crate::framework::{CycleState, Plugin, Point, Rejection};
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
