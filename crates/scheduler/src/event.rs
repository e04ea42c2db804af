//! What happens in the cluster and may let a waiting pod fit.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};

use crate::shape::PodInfo;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub enum ClusterEvent {
    NodeAdded(Arc<Node>),
    /// Something that decides about placement changed: see [`NodeChange`].
    NodeChanged {
        change: NodeChange,
        old: Arc<Node>,
        new: Arc<Node>,
    },
    NodeGone(Arc<Node>),
    /// A pod came to a node.
    PodPlaced(PodInfo),
    /// A pod on a node changed in its labels or requests, or began to terminate.
    PodChanged {
        old: PodInfo,
        new: PodInfo,
    },
    /// A pod left a node, by deletion or by finishing.
    PodGone(PodInfo),
    NamespaceChanged(Arc<Namespace>),
    ClaimChanged(Arc<PersistentVolumeClaim>),
    VolumeChanged(Arc<PersistentVolume>),
    ClassChanged(Arc<StorageClass>),
    CsiNodeChanged(Arc<CSINode>),
    CsiDriverChanged(Arc<CSIDriver>),
    CapacityChanged(Arc<CSIStorageCapacity>),
    /// Someone asks for another try, whatever was wrong.
    Retry,
}

/// What of a node changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeChange {
    pub allocatable: bool,
    pub labels: bool,
    pub taints: bool,
    pub unschedulable: bool,
}

impl NodeChange {
    pub fn between(old: &Node, new: &Node) -> Self {
        fn spec(n: &Node) -> Option<&k8s_openapi::api::core::v1::NodeSpec> {
            n.spec.as_ref()
        }
        Self {
            allocatable: old.status.as_ref().and_then(|s| s.allocatable.as_ref())
                != new.status.as_ref().and_then(|s| s.allocatable.as_ref()),
            labels: old.metadata.labels != new.metadata.labels,
            taints: spec(old).and_then(|s| s.taints.as_ref()) != spec(new).and_then(|s| s.taints.as_ref()),
            unschedulable: spec(old).and_then(|s| s.unschedulable).unwrap_or(false)
                != spec(new).and_then(|s| s.unschedulable).unwrap_or(false),
        }
    }

    pub fn is_any(self) -> bool {
        self != Self::default()
    }
}

impl ClusterEvent {
    /// What changed between two states of a node, if it decides about placement.
    pub fn of_node(old: &Arc<Node>, new: &Arc<Node>) -> Option<Self> {
        let change = NodeChange::between(old, new);
        change.is_any().then(|| Self::NodeChanged {
            change,
            old: old.clone(),
            new: new.clone(),
        })
    }

    /// Upstream's name, as metrics show it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NodeAdded(_) => "NodeAdd",
            Self::NodeChanged { change, .. } if change.allocatable => "NodeAllocatableChange",
            Self::NodeChanged { change, .. } if change.labels => "NodeLabelChange",
            Self::NodeChanged { .. } => "NodeTaintChange",
            Self::NodeGone(_) => "NodeDelete",
            Self::PodPlaced(_) => "AssignedPodAdd",
            Self::PodChanged { .. } => "AssignedPodUpdate",
            Self::PodGone(_) => "AssignedPodDelete",
            Self::NamespaceChanged(_) => "NamespaceUpdate",
            Self::ClaimChanged(_) => "PvcUpdate",
            Self::VolumeChanged(_) => "PvUpdate",
            Self::ClassChanged(_) => "StorageClassUpdate",
            Self::CsiNodeChanged(_) => "CSINodeUpdate",
            Self::CsiDriverChanged(_) => "CSIDriverUpdate",
            Self::CapacityChanged(_) => "CSIStorageCapacityUpdate",
            Self::Retry => "ForceActivate",
        }
    }

    /// The node that was added or changed.
    pub fn node(&self) -> Option<&Arc<Node>> {
        match self {
            Self::NodeAdded(node) | Self::NodeChanged { new: node, .. } => Some(node),
            _ => None,
        }
    }
}
