//! How long a pod may stay on a node with these taints. Pure.

use std::time::Duration;

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

/// Whether the toleration covers the taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    let wanted = toleration.value.as_deref().unwrap_or_default();
    let has = taint.value.as_deref().unwrap_or_default();
    let numbers = || Some((has.parse::<i64>().ok()?, wanted.parse::<i64>().ok()?));
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => wanted == has,
        "Exists" => true,
        "Gt" => numbers().is_some_and(|(has, wanted)| has > wanted),
        "Lt" => numbers().is_some_and(|(has, wanted)| has < wanted),
        _ => false,
    }
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
