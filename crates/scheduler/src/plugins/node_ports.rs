//! NodePorts: host ports are claimed by one pod of a node at a time.

use crate::cache::{NodeInfo, PodInfo};
use crate::framework::{ClusterEvent, CycleState, Plugin, Rejection};

pub struct NodePorts;

fn clash(a: &(String, String, i32), b: &(String, String, i32)) -> bool {
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || any(&a.0) || any(&b.0))
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.host_ports.is_empty() {
            return Ok(());
        }
        let mut taken = node.pods.values().flat_map(|p| p.host_ports.iter());
        if taken.any(|t| pod.host_ports.iter().any(|p| clash(p, t))) {
            return Err(Rejection::new(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }

    fn may_help(&self, event: &ClusterEvent<'_>, _pod: &PodInfo) -> bool {
        matches!(event, ClusterEvent::NodeAdded(_) | ClusterEvent::PodGone(_))
    }
}
