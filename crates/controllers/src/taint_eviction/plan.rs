//! How long a pod may stay on a node with these taints. Pure.

use std::time::Duration;

use coracle_api::placement::tolerates;
use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

pub const NO_EXECUTE: &str = "NoExecute";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Nothing asks it to go.
    Free,
    /// Every taint is tolerated, one of them only so long.
    For(Duration),
    Forever,
    /// A taint is not tolerated at all.
    No,
}

pub fn evicting(node: &Node) -> Vec<&Taint> {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints.filter(|t| t.effect == NO_EXECUTE).collect()
}

/// The shortest of the tolerations that are used, one for each taint.
pub fn stay(taints: &[&Taint], tolerations: &[Toleration]) -> Stay {
    if taints.is_empty() {
        return Stay::Free;
    }
    let mut shortest: Option<i64> = None;
    for taint in taints {
        let Some(used) = tolerations.iter().find(|t| tolerates(t, taint)) else {
            return Stay::No;
        };
        if let Some(seconds) = used.toleration_seconds {
            shortest = Some(shortest.map_or(seconds, |s| s.min(seconds)));
        }
    }
    match shortest {
        None => Stay::Forever,
        Some(seconds) => Stay::For(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
    }
}
