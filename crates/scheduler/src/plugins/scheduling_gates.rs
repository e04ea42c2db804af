//! SchedulingGates: a pod with `spec.schedulingGates` does not enter the queue.

use k8s_openapi::api::core::v1::Pod;

use crate::event::ClusterEvent;
use crate::framework::{Plugin, Point, Rejection};
use crate::shape::PodInfo;

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue]
    }

    fn pre_enqueue(&self, pod: &Pod) -> Result<(), Rejection> {
        let gates = pod.spec.iter().flat_map(|s| s.scheduling_gates.iter().flatten());
        let gates: Vec<&str> = gates.map(|g| g.name.as_str()).collect();
        if gates.is_empty() {
            return Ok(());
        }
        Err(Rejection::unresolvable_text(format!(
            "waiting for scheduling gates: [{}]",
            gates.join(" ")
        )))
    }

    fn keeps_out_by_pod_alone(&self) -> bool {
        true
    }

    fn may_help(&self, _event: &ClusterEvent, _pod: &PodInfo) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    #[test]
    fn any_gate_keeps_a_pod_out() {
        let gated = pod("a", json!({"schedulingGates": [{"name": "x/a"}, {"name": "x/b"}]}));
        let rejection = SchedulingGates.pre_enqueue(&gated.pod).unwrap_err();
        assert_eq!(rejection.to_string(), "waiting for scheduling gates: [x/a x/b]");
        assert_eq!(SchedulingGates.pre_enqueue(&pod("b", json!({})).pod), Ok(()));
    }
}
