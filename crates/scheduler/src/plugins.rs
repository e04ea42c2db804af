//! The default plugins, one file each, and the profile they make.

use crate::framework::{Plugin, Profile};

pub mod balanced_allocation;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod scheduling_gates;
pub mod taint_toleration;

/// Upstream's default plugins (those that exist here) with upstream's weights.
pub fn default_profile(scheduler_name: &str) -> Profile {
    let plugins: Vec<(Box<dyn Plugin>, i64)> = vec![
        (Box::new(scheduling_gates::SchedulingGates), 0),
        (Box::new(node_unschedulable::NodeUnschedulable), 0),
        (Box::new(node_name::NodeName), 0),
        (Box::new(taint_toleration::TaintToleration), 3),
        (Box::new(node_affinity::NodeAffinity), 2),
        (Box::new(node_ports::NodePorts), 0),
        (Box::new(node_resources_fit::NodeResourcesFit), 1),
        (Box::new(balanced_allocation::BalancedAllocation), 1),
    ];
    Profile::new(scheduler_name, plugins)
}
