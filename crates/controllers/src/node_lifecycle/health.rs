//! When each node was last heard of, and what its conditions become when it is silent for too long.

use std::collections::HashMap;
use std::time::Duration;

use coracle_clock::{Clock, Instant, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

use super::taints::{conditions, ready};

/// How long a node may be silent.
pub const GRACE: Duration = Duration::from_secs(50);
/// How long a new node may take until its first status.
pub const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// These say nothing about a node that is silent. (The network's condition is not the node's own word.)
const OWN_WORD: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The last sign of life of each node, by its status or its lease.
pub struct Heartbeats {
    clock: Clock,
    last: Mutex<HashMap<String, Instant>>,
}

impl Heartbeats {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            last: Mutex::default(),
        }
    }

    pub fn heard_of(&self, node: &str) {
        self.last.lock().insert(node.to_owned(), self.clock.instant());
    }

    /// Everyone counts as heard of just now: it was not the nodes that were silent.
    pub fn reset(&self) {
        let now = self.clock.instant();
        self.last.lock().values_mut().for_each(|last| *last = now);
    }

    pub fn forget(&self, node: &str) {
        self.last.lock().remove(node);
    }

    /// How much silence is left to the node. One seen for the first time was heard of now, or if it never had a status,
    /// when it was made.
    pub fn left(&self, node: &Node) -> Duration {
        let now = self.clock.instant();
        let name = node.metadata.name.clone().unwrap_or_default();
        let mut last = self.last.lock();
        let known = last.get(&name).copied();
        if ready(node).is_none() && known.is_none() {
            let made = node.metadata.creation_timestamp.as_ref().map(|t| t.0);
            let age = made.map_or(Duration::ZERO, |made| {
                Duration::try_from(self.clock.now().duration_since(made)).unwrap_or_default()
            });
            return STARTUP_GRACE.saturating_sub(age);
        }
        let since = known.unwrap_or_else(|| *last.entry(name).or_insert(now));
        let grace = if ready(node).is_some() { GRACE } else { STARTUP_GRACE };
        grace.saturating_sub(now.saturating_duration_since(since))
    }
}

/// The conditions of a silent node, or `None` if they say so already.
pub fn unknown(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let before: Vec<NodeCondition> = conditions(node).cloned().collect();
    let mut after = before.clone();
    for kind in OWN_WORD {
        match after.iter_mut().find(|c| c.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".into();
                condition.reason = Some("NodeStatusUnknown".into());
                condition.message = Some("Kubelet stopped posting node status.".into());
                condition.last_transition_time = Some(Time(now));
            }
            None => after.push(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    (after != before).then_some(after)
}
