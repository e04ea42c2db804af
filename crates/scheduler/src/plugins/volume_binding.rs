//! VolumeBinding: a pod goes where its volumes are or can be: bound ones by their node affinity, unbound ones of classes
//! that wait for their first consumer by a volume that is free there or can be made there. What was found is promised at
//! once (assumed), written before the pod is bound, and waited for.

mod assumed;
mod claims;
mod commit;
mod decision;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::resource_score::{ShapePoint, on_line};
use crate::event::ClusterEvent;
use crate::framework::{Binding, CycleState, Plugin, Point, PreFilter, PreScore, Rejection, Reuse};
use crate::listers::{Listers, Needs};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

use claims::PodClaims;
use decision::Decision;

pub use assumed::Assumed;
pub use claims::is_bound;

pub struct VolumeBinding {
    pub(crate) listers: Arc<Listers>,
    /// How long a pod waits for its volumes before it is tried anew.
    pub timeout: Duration,
    /// How nodes score by how full the volumes found there would be; empty: not at all.
    pub shape: Vec<ShapePoint>,
}

impl VolumeBinding {
    pub fn new(listers: Arc<Listers>) -> Self {
        Self {
            listers,
            timeout: Duration::from_secs(600),
            shape: Vec::new(),
        }
    }
}

/// What this plugin remembers of a cycle.
struct State {
    claims: PodClaims,
    /// By node.
    found: Mutex<HashMap<Arc<str>, Decision>>,
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn points(&self) -> &'static [Point] {
        &[
            Point::PreFilter,
            Point::Filter,
            Point::PreScore,
            Point::Score,
            Point::Reserve,
            Point::PreBind,
        ]
    }

    fn reuse(&self, pod: &PodInfo) -> Reuse {
        match pod.has_claims() {
            true => Reuse::Nothing,
            false => Reuse::Node,
        }
    }

    fn needs(&self, pod: &PodInfo) -> Needs {
        match pod.has_claims() {
            true => Needs::STORAGE,
            false => Needs::NOTHING,
        }
    }

    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, _snapshot: &Snapshot) -> Result<PreFilter, Rejection> {
        if !pod.has_claims() {
            return Ok(PreFilter::Skip);
        }
        let claims = claims::of(pod, &self.listers)?;
        state.put(State {
            claims,
            found: Mutex::default(),
        });
        Ok(PreFilter::All)
    }

    fn filter(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(state) = state.get::<State>() else {
            return Ok(());
        };
        let decision = decision::decide(&state.claims, node, &self.listers)?;
        if !decision.is_empty() {
            state.found.lock().insert(node.name.clone(), decision);
        }
        Ok(())
    }

    fn pre_score(&self, state: &mut CycleState, _pod: &PodInfo, _nodes: &[&NodeInfo], _all: &Snapshot) -> PreScore {
        let found = state.get::<State>();
        let any = found.is_some_and(|s| s.found.lock().values().any(|d| !d.take.is_empty()));
        match any && !self.shape.is_empty() {
            true => PreScore::Score,
            false => PreScore::Skip,
        }
    }

    fn score(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(state) = state.get::<State>() else { return 0 };
        let found = state.found.lock();
        let classes = found.get(&node.name).map(Decision::fullness).unwrap_or_default();
        if classes.is_empty() {
            return 0;
        }
        let scores = classes.iter().map(|(wanted, has)| match *has {
            0 => on_line(&self.shape, 100),
            has => on_line(&self.shape, wanted * 100 / has),
        });
        (scores.sum::<i64>() as f64 / classes.len() as f64).round() as i64
    }

    fn reserve(&self, state: &mut CycleState, _pod: &PodInfo, node: &str) -> Result<(), Rejection> {
        if let Some(state) = state.get::<State>()
            && let Some(decision) = state.found.lock().get(node)
        {
            self.listers.assumed.lock().promise(decision, node);
        }
        Ok(())
    }

    fn unreserve(&self, state: &CycleState, _pod: &PodInfo, node: &str) {
        if let Some(state) = state.get::<State>()
            && let Some(decision) = state.found.lock().get(node)
        {
            self.listers.assumed.lock().take_back(decision);
        }
    }

    fn pre_bind_pre_flight(&self, binding: &Binding<'_>) -> bool {
        let state = binding.state.get::<State>();
        state.is_some_and(|s| s.found.lock().contains_key(binding.node))
    }

    fn pre_bind<'a>(&'a self, binding: &'a Binding<'a>) -> BoxFuture<'a, Result<(), Rejection>> {
        Box::pin(async move {
            let decision = binding
                .state
                .get::<State>()
                .and_then(|s| s.found.lock().get(binding.node).cloned());
            match decision {
                Some(decision) => commit::commit(&decision, binding, &self.listers, self.timeout).await,
                None => Ok(()),
            }
        })
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::NodeAdded(_)
            | ClusterEvent::VolumeChanged(_)
            | ClusterEvent::ClassChanged(_)
            | ClusterEvent::CsiNodeChanged(_)
            | ClusterEvent::CsiDriverChanged(_)
            | ClusterEvent::CapacityChanged(_) => true,
            ClusterEvent::NodeChanged { change, .. } => change.labels,
            ClusterEvent::ClaimChanged(claim) => {
                claim.metadata.namespace.as_deref() == Some(pod.namespace())
                    && pod.claims().any(|c| claim.metadata.name.as_deref() == Some(&c.name()))
            }
            // What it was promised is free again.
            ClusterEvent::PodGone(gone) => gone.has_claims(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
