//! InterPodAffinity: pods that want to be with, or apart from, other pods of a topology. Required terms filter, those of
//! the pods already placed too; preferred terms of both sides score.

mod preferred;
mod required;

use std::sync::Arc;

use crate::affinity_term::{AffinityTerm, NamespaceLabels};
use crate::event::ClusterEvent;
use crate::framework::{CycleState, MAX_SCORE, Plugin, Point, PreFilter, PreScore, Rejection, Reuse};
use crate::listers::{Listers, Needs};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

use preferred::Preferred;
use required::Required;

pub struct InterPodAffinity {
    pub(crate) listers: Arc<Listers>,
    /// What a required affinity of a placed pod to this one weighs in scoring.
    pub hard_pod_affinity_weight: i64,
    /// Pods without preferences of their own are not scored by those of others.
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl InterPodAffinity {
    pub fn new(listers: Arc<Listers>) -> Self {
        Self {
            listers,
            hard_pod_affinity_weight: 1,
            ignore_preferred_terms_of_existing_pods: false,
        }
    }
}

/// Pods by domain of a topology.
struct Count {
    topology: usize,
    pods: Vec<i64>,
    /// Of all domains together.
    total: i64,
}

impl Count {
    fn empty(topology: usize, domains: usize) -> Self {
        Self {
            topology,
            pods: vec![0; domains],
            total: 0,
        }
    }

    fn of(topology: usize, snapshot: &Snapshot, key: &str) -> Self {
        Self::empty(topology, snapshot.topology(key).map_or(0, |t| t.len()))
    }

    #[inline]
    fn on(&self, node: &NodeInfo) -> i64 {
        let domain = node.domain(self.topology);
        domain.and_then(|d| self.pods.get(d)).copied().unwrap_or(0)
    }

    fn add(&mut self, domain: usize, by: i64) {
        if self.pods.len() <= domain {
            self.pods.resize(domain + 1, 0);
        }
        self.pods[domain] += by;
        self.total += by;
    }

    fn add_on(&mut self, node: &NodeInfo, by: i64) {
        if let Some(domain) = node.domain(self.topology) {
            self.add(domain, by);
        }
    }
}

fn speaks_of(term: &AffinityTerm, pod: &PodInfo, namespaces: &dyn NamespaceLabels) -> bool {
    term.matches(pod.namespace(), pod.shape.labels(), namespaces)
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn reuse(&self, pod: &PodInfo) -> Reuse {
        // Labels of namespaces are nobody's pods.
        match pod.shape.selects_namespaces() || self.listers.namespaces.is_watched() {
            true => Reuse::Nothing,
            false => Reuse::State,
        }
    }

    fn needs(&self, pod: &PodInfo) -> Needs {
        match pod.shape.selects_namespaces() {
            true => Needs::NAMESPACES,
            false => Needs::NOTHING,
        }
    }

    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot) -> Result<PreFilter, Rejection> {
        if state.get::<Required>().is_none() {
            state.put(Required::count(pod, snapshot, &*self.listers));
        }
        Ok(match state.get::<Required>().is_none_or(Required::is_empty) {
            true => PreFilter::Skip,
            false => PreFilter::All,
        })
    }

    fn filter(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        state.get::<Required>().map_or(Ok(()), |required| required.allows(node))
    }

    fn add_pod(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo) {
        if let Some(required) = state.get_mut::<Required>() {
            required.change(pod, other, node, 1, &*self.listers);
        }
    }

    fn remove_pod(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo) {
        if let Some(required) = state.get_mut::<Required>() {
            required.change(pod, other, node, -1, &*self.listers);
        }
    }

    fn carry(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        if let Some(required) = state.get_mut::<Required>() {
            required.change(pod, other, node, by, &*self.listers);
        }
        if let Some(preferred) = state.get_mut::<Preferred>() {
            preferred.change(pod, other, node, by, &*self.listers);
        }
    }

    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, _nodes: &[&NodeInfo], all: &Snapshot) -> PreScore {
        let has_own = !pod.shape.preferred_affinity.is_empty() || !pod.shape.preferred_anti_affinity.is_empty();
        if !has_own && (self.ignore_preferred_terms_of_existing_pods || all.shapes_with_affinity().next().is_none()) {
            return PreScore::Skip;
        }
        if state.get::<Preferred>().is_none() {
            let weight = self.hard_pod_affinity_weight;
            state.put(Preferred::count(pod, all, weight, &*self.listers));
        }
        match state.get::<Preferred>().is_none_or(Preferred::is_empty) {
            true => PreScore::Skip,
            false => PreScore::Score,
        }
    }

    fn score(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> i64 {
        state.get::<Preferred>().map_or(0, |preferred| preferred.score(node))
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        let least = scores.iter().copied().min().unwrap_or_default();
        let most = scores.iter().copied().max().unwrap_or_default();
        for score in scores {
            *score = match most - least {
                0 => 0,
                range => (MAX_SCORE as f64 * ((*score - least) as f64 / range as f64)) as i64,
            };
        }
    }

    fn may_help(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        let namespaces: &dyn NamespaceLabels = &*self.listers;
        let any = |terms: &[AffinityTerm], other: &PodInfo| terms.iter().any(|t| speaks_of(t, other, namespaces));
        let wanted = |other: &PodInfo| any(&pod.shape.required_affinity, other);
        let shunned = |other: &PodInfo| {
            any(&pod.shape.required_anti_affinity, other) || any(&other.shape.required_anti_affinity, pod)
        };
        // When the last of its like is gone, it may be the first again, and go anywhere.
        let may_be_first = |gone: &PodInfo| wanted(gone) && wanted(pod);
        match event {
            ClusterEvent::PodPlaced(other) => wanted(other),
            ClusterEvent::PodGone(other) => shunned(other) || may_be_first(other),
            ClusterEvent::PodChanged { old, new } => {
                (wanted(new) && !wanted(old)) || (!wanted(new) && may_be_first(old)) || (shunned(old) && !shunned(new))
            }
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::NodeChanged { change, .. } => change.labels,
            ClusterEvent::NamespaceChanged(_) => pod.shape.selects_namespaces(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
