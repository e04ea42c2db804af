//! The default plugins, one file each, and the list of them.

use std::sync::Arc;

use crate::framework::Plugin;
use crate::listers::Listers;

pub mod default_binder;
pub mod default_preemption;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_balanced_allocation;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod node_volume_limits;
pub mod pod_topology_spread;
pub mod priority_sort;
pub mod resource_score;
pub mod scheduling_gates;
pub mod taint_toleration;
pub mod volume_binding;
pub mod volume_restrictions;
pub mod volume_zone;

/// Names of upstream's default plugins in their order, with their weights.
pub const DEFAULT_PLUGINS: [(&str, i64); 18] = [
    ("SchedulingGates", 0),
    ("PrioritySort", 0),
    ("NodeUnschedulable", 0),
    ("NodeName", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("VolumeRestrictions", 0),
    ("NodeVolumeLimits", 0),
    ("VolumeBinding", 0),
    ("VolumeZone", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
];

/// The plugin of this name with default arguments.
pub fn default_plugin(name: &str, listers: &Arc<Listers>) -> Option<Arc<dyn Plugin>> {
    let listers = || listers.clone();
    Some(match name {
        "SchedulingGates" => Arc::new(scheduling_gates::SchedulingGates),
        "PrioritySort" => Arc::new(priority_sort::PrioritySort),
        "NodeUnschedulable" => Arc::new(node_unschedulable::NodeUnschedulable),
        "NodeName" => Arc::new(node_name::NodeName),
        "TaintToleration" => Arc::new(taint_toleration::TaintToleration),
        "NodeAffinity" => Arc::new(node_affinity::NodeAffinity::default()),
        "NodePorts" => Arc::new(node_ports::NodePorts),
        "NodeResourcesFit" => Arc::new(node_resources_fit::NodeResourcesFit::default()),
        "VolumeRestrictions" => Arc::new(volume_restrictions::VolumeRestrictions::new(listers())),
        "NodeVolumeLimits" => Arc::new(node_volume_limits::NodeVolumeLimits::new(listers())),
        "VolumeBinding" => Arc::new(volume_binding::VolumeBinding::new(listers())),
        "VolumeZone" => Arc::new(volume_zone::VolumeZone::new(listers())),
        "PodTopologySpread" => Arc::new(pod_topology_spread::PodTopologySpread::new(
            listers(),
            pod_topology_spread::Defaults::System,
        )),
        "InterPodAffinity" => Arc::new(inter_pod_affinity::InterPodAffinity::new(listers())),
        "DefaultPreemption" => Arc::new(default_preemption::DefaultPreemption::new(listers())),
        "NodeResourcesBalancedAllocation" => {
            Arc::new(node_resources_balanced_allocation::NodeResourcesBalancedAllocation::default())
        }
        "ImageLocality" => Arc::new(image_locality::ImageLocality),
        "DefaultBinder" => Arc::new(default_binder::DefaultBinder),
        _ => return None,
    })
}

/// All default plugins with their weights.
pub fn default_plugins(listers: &Arc<Listers>) -> Vec<(Arc<dyn Plugin>, i64)> {
    let named = DEFAULT_PLUGINS.into_iter();
    named
        .filter_map(|(name, weight)| Some((default_plugin(name, listers)?, weight)))
        .collect()
}
