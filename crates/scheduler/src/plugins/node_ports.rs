//! NodePorts: host ports are claimed by one pod of a node at a time.

use crate::event::ClusterEvent;
use crate::framework::{CycleState, Plugin, Point, PreFilter, Rejection, Reuse};
use crate::node_info::NodeInfo;
use crate::shape::{HostPort, PodInfo};
use crate::snapshot::Snapshot;

pub struct NodePorts;

fn clash(a: &HostPort, b: &HostPort) -> bool {
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    a.port == b.port && a.protocol == b.protocol && (a.ip == b.ip || any(&a.ip) || any(&b.ip))
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn reuse(&self, _pod: &PodInfo) -> Reuse {
        Reuse::Node
    }

    fn pre_filter(&self, _state: &mut CycleState, pod: &PodInfo, _snapshot: &Snapshot) -> Result<PreFilter, Rejection> {
        Ok(match pod.shape.host_ports.is_empty() {
            true => PreFilter::Skip,
            false => PreFilter::All,
        })
    }

    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let wanted = &pod.shape.host_ports;
        if node.host_ports.iter().any(|t| wanted.iter().any(|p| clash(p, t))) {
            return Err(Rejection::new(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        let frees = |gone: &PodInfo| {
            let ports = &gone.shape.host_ports;
            ports.iter().any(|t| pod.shape.host_ports.iter().any(|p| clash(p, t)))
        };
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::PodGone(gone) => frees(gone),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::{Value, json};

    fn with_port(name: &str, port: Value) -> PodInfo {
        pod(name, json!({"containers": [{"name": "c", "ports": [port]}]}))
    }

    #[test]
    fn ports_clash_by_number_protocol_and_address() {
        let port = |ip: &str, protocol: &str, n: i32| json!({"containerPort": 1, "hostPort": n, "hostIP": ip, "protocol": protocol});
        for (a, b, fits) in [
            (port("", "TCP", 80), port("", "TCP", 80), false),
            (port("", "TCP", 80), port("", "UDP", 80), true),
            (port("", "TCP", 80), port("", "TCP", 81), true),
            (port("10.0.0.1", "TCP", 80), port("10.0.0.2", "TCP", 80), true),
            (port("10.0.0.1", "TCP", 80), port("10.0.0.1", "TCP", 80), false),
            (port("10.0.0.1", "TCP", 80), port("0.0.0.0", "TCP", 80), false),
            (port("10.0.0.1", "TCP", 80), port("::", "TCP", 80), false),
            (json!({"containerPort": 80}), port("", "TCP", 80), true),
        ] {
            let mut info = NodeInfo::new(node("n", json!({}), json!({})), 0);
            let there = with_port("there", a.clone());
            info.add_pod(there.clone());
            let verdict = NodePorts.filter(&CycleState::default(), &with_port("new", b.clone()), &info);
            assert_eq!(verdict.is_ok(), fits, "{a} {b}");
            let gone = ClusterEvent::PodGone(there.clone());
            assert_eq!(NodePorts.may_help(&gone, &with_port("new", b)), !fits);
            info.remove_pod("there");
            assert!(info.host_ports.is_empty());
        }
    }
}
