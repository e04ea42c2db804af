//! What a node's conditions mean as taints. Pure.

use coracle_clock::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// A condition in this status is this taint.
const MEANINGS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// What is to become of the taints that evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// They stay as they are.
    Wait,
    /// The node's pods may stay.
    Clear,
    /// The node's pods are to go: because it is [`NOT_READY`] or [`UNREACHABLE`].
    Because(&'static str),
}

pub fn conditions(node: &Node) -> impl Iterator<Item = &NodeCondition> {
    node.status.iter().flat_map(|s| s.conditions.iter().flatten())
}

pub fn ready(node: &Node) -> Option<&NodeCondition> {
    conditions(node).find(|c| c.type_ == "Ready")
}

/// The taint for which a node's pods would go, if it is not ready.
pub fn cause(ready: &str) -> Option<&'static str> {
    match ready {
        "False" => Some(NOT_READY),
        "Unknown" => Some(UNREACHABLE),
        _ => None,
    }
}

fn taints(node: &Node) -> &[Taint] {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref());
    taints.unwrap_or_default()
}

fn evicts_for(taint: &Taint, key: &str) -> bool {
    taint.effect == NO_EXECUTE && taint.key == key
}

/// The evicting taint that the node has for not being ready.
pub fn evicted_for(node: &Node) -> Option<&'static str> {
    [NOT_READY, UNREACHABLE]
        .into_iter()
        .find(|key| taints(node).iter().any(|t| evicts_for(t, key)))
}

/// The node's taints as they should be, or `None` if they are. Taints that others have put there stay.
pub fn plan(node: &Node, eviction: Eviction, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted: Vec<(&str, &str)> = conditions(node)
        .filter_map(|c| {
            let meaning = MEANINGS
                .iter()
                .find(|(kind, status, _)| c.type_ == *kind && c.status == *status);
            meaning.map(|(_, _, key)| (*key, NO_SCHEDULE))
        })
        .collect();
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    match eviction {
        Eviction::Because(key) => wanted.push((key, NO_EXECUTE)),
        Eviction::Wait => wanted.extend(evicted_for(node).map(|key| (key, NO_EXECUTE))),
        Eviction::Clear => {}
    }
    let is_ours = |t: &Taint| match t.effect.as_str() {
        NO_SCHEDULE => t.key == UNSCHEDULABLE || MEANINGS.iter().any(|(_, _, key)| t.key == *key),
        NO_EXECUTE => t.key == NOT_READY || t.key == UNREACHABLE,
        _ => false,
    };
    let is_wanted = |t: &Taint| wanted.contains(&(t.key.as_str(), t.effect.as_str()));
    let before = taints(node);
    let mut after: Vec<Taint> = before.iter().filter(|t| !is_ours(t) || is_wanted(t)).cloned().collect();
    for (key, effect) in wanted {
        if !after.iter().any(|t| t.key == key && t.effect == effect) {
            after.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                ..Taint::default()
            });
        }
    }
    (after != before).then_some(after)
}
