//! NodeResourcesBalancedAllocation: prefers nodes whose CPU and memory would be used in like proportion.

use crate::cache::{NodeInfo, PodInfo};
use crate::framework::{CycleState, MAX_SCORE, Plugin};

pub struct BalancedAllocation;

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn scores(&self) -> bool {
        true
    }

    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let share = |used: i64, has: i64| (has > 0).then(|| (used as f64 / has as f64).min(1.0));
        let (has, used, own) = (&node.allocatable, &node.assumed_use, &pod.assumed_use);
        let cpu = share(used.milli_cpu + own.milli_cpu, has.milli_cpu);
        let memory = share(used.memory + own.memory, has.memory);
        // The standard deviation of two numbers is half their distance.
        let deviation = match (cpu, memory) {
            (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
            _ => 0.0,
        };
        ((1.0 - deviation) * MAX_SCORE as f64) as i64
    }
}
