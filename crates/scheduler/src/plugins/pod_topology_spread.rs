//! PodTopologySpread: pods of a selector are spread over the domains of a topology. Hard constraints filter; soft ones
//! score. Pods without constraints of their own get the profile's default ones.

mod constraints;
mod hard;
mod soft;

use std::sync::Arc;

use crate::event::ClusterEvent;
use crate::framework::{CycleState, Plugin, Point, PreFilter, PreScore, Rejection, Reuse};
use crate::listers::{Listers, Needs};
use crate::node_info::NodeInfo;
use crate::shape::{PodInfo, SpreadConstraint};
use crate::snapshot::Snapshot;

pub use constraints::{DefaultConstraint, Defaults};
use hard::Hard;
use soft::Soft;

pub struct PodTopologySpread {
    listers: Arc<Listers>,
    defaults: Defaults,
}

impl PodTopologySpread {
    pub fn new(listers: Arc<Listers>, defaults: Defaults) -> Self {
        Self { listers, defaults }
    }

    fn constraints(&self, pod: &PodInfo) -> Arc<[SpreadConstraint]> {
        if pod.shape.spread.is_empty() {
            self.defaults.for_pod(pod, &self.listers)
        } else {
            pod.shape.spread.clone()
        }
    }

    /// The same, as long as no service or controller selects other pods than before.
    fn known_constraints(&self, state: &mut CycleState, pod: &PodInfo) -> Arc<[SpreadConstraint]> {
        if !pod.shape.spread.is_empty() {
            return pod.shape.spread.clone();
        }
        let now = self.listers.selections();
        match state.get::<ByDefault>() {
            Some(known) if known.selections == now => known.constraints.clone(),
            _ => {
                let constraints = self.constraints(pod);
                state.put(ByDefault {
                    selections: now,
                    constraints: constraints.clone(),
                });
                constraints
            }
        }
    }

    /// Whether a node that lacks the label of one constraint is left out for all of them.
    fn requires_all(&self, pod: &PodInfo) -> bool {
        !pod.shape.spread.is_empty() || !matches!(self.defaults, Defaults::System)
    }
}

/// The constraints of a pod that has none of its own.
struct ByDefault {
    /// As the [listers](Listers::selections) count them.
    selections: u64,
    constraints: Arc<[SpreadConstraint]>,
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn reuse(&self, _pod: &PodInfo) -> Reuse {
        Reuse::State
    }

    fn needs(&self, pod: &PodInfo) -> Needs {
        match pod.shape.spread.is_empty() && !self.defaults.is_empty() {
            true => constraints::needs(pod),
            false => Needs::NOTHING,
        }
    }

    fn topology_keys(&self) -> Vec<Arc<str>> {
        self.defaults.topology_keys()
    }

    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot) -> Result<PreFilter, Rejection> {
        let hard_by_default = || self.defaults.has_hard();
        if pod.shape.spread.is_empty() && !hard_by_default() {
            return Ok(PreFilter::Skip);
        }
        let constraints = self.known_constraints(state, pod);
        if !constraints.iter().any(|c| c.hard) {
            return Ok(PreFilter::Skip);
        }
        if !state.get::<Hard>().is_some_and(|known| known.is_of(&constraints)) {
            state.put(Hard::count(&constraints, pod, snapshot));
        }
        Ok(PreFilter::All)
    }

    fn filter(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        state.get::<Hard>().map_or(Ok(()), |hard| hard.allows(node))
    }

    fn add_pod(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo) {
        if let Some(hard) = state.get_mut::<Hard>() {
            hard.change(pod, other, node, 1);
        }
    }

    fn remove_pod(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo) {
        if let Some(hard) = state.get_mut::<Hard>() {
            hard.change(pod, other, node, -1);
        }
    }

    fn carry(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        if let Some(hard) = state.get_mut::<Hard>() {
            hard.change(pod, other, node, by);
        }
        if let Some(soft) = state.get_mut::<Soft>() {
            soft.change(pod, other, node, by);
        }
    }

    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: &[&NodeInfo], all: &Snapshot) -> PreScore {
        let constraints = self.known_constraints(state, pod);
        if !constraints.iter().any(|c| !c.hard) {
            return PreScore::Skip;
        }
        if !state.get::<Soft>().is_some_and(|known| known.is_of(&constraints)) {
            state.put(Soft::count(&constraints, self.requires_all(pod), pod, all));
        }
        if let Some(soft) = state.get_mut::<Soft>() {
            soft.weigh(nodes);
        }
        PreScore::Score
    }

    fn score(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> i64 {
        state.get::<Soft>().map_or(0, |soft| soft.score(node))
    }

    fn normalize(&self, state: &CycleState, nodes: &[&NodeInfo], scores: &mut [i64]) {
        if let Some(soft) = state.get::<Soft>() {
            soft.normalize(nodes, scores);
        }
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        let constraints = self.constraints(pod);
        let hard = || constraints.iter().filter(|c| c.hard);
        let counted = |other: &PodInfo| {
            let labels = other.shape.labels();
            other.namespace() == pod.namespace() && hard().any(|c| c.selector.matches_labels(labels))
        };
        let has_keys = |node: &k8s_openapi::api::core::v1::Node| {
            let labels = node.metadata.labels.as_ref();
            hard().all(|c| labels.is_some_and(|l| l.contains_key(&*c.topology_key)))
        };
        match event {
            ClusterEvent::PodPlaced(other) | ClusterEvent::PodGone(other) => counted(other),
            ClusterEvent::PodChanged { old, new } => {
                counted(old) != counted(new) || (counted(new) && old.is_terminating() != new.is_terminating())
            }
            ClusterEvent::NodeAdded(node) | ClusterEvent::NodeGone(node) => has_keys(node),
            ClusterEvent::NodeChanged { change, old, new } => {
                (change.labels && (has_keys(old) || has_keys(new))) || change.taints
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
