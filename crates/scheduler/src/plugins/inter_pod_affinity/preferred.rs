//! Preferred terms: the weights of all that speak for or against a domain, from both sides.

use super::{Count, speaks_of};
use crate::affinity_term::{AffinityTerm, NamespaceLabels};
use crate::node_info::NodeInfo;
use crate::shape::{PodInfo, Shape};
use crate::snapshot::Snapshot;

/// What Score looks at: weights by domain, per topology.
pub struct Preferred {
    /// What a required affinity of a placed pod weighs.
    hard_weight: i64,
    counts: Vec<Count>,
}

/// Every term that counts for `pod` because there is a pod like `other`, with its weight.
fn each_wish(
    pod: &PodInfo,
    other: &Shape,
    hard_weight: i64,
    namespaces: &dyn NamespaceLabels,
    mut found: impl FnMut(i64, &AffinityTerm),
) {
    let own = &pod.shape;
    for (sign, terms) in [(1, &own.preferred_affinity), (-1, &own.preferred_anti_affinity)] {
        for (weight, term) in terms {
            if term.matches(other.namespace(), other.labels(), namespaces) {
                found(weight * sign, term);
            }
        }
    }
    if hard_weight > 0 {
        let required = other.required_affinity.iter();
        required
            .filter(|t| speaks_of(t, pod, namespaces))
            .for_each(|t| found(hard_weight, t));
    }
    for (sign, terms) in [(1, &other.preferred_affinity), (-1, &other.preferred_anti_affinity)] {
        for (weight, term) in terms.iter().filter(|(_, t)| speaks_of(t, pod, namespaces)) {
            found(weight * sign, term);
        }
    }
}

impl Preferred {
    pub fn count(pod: &PodInfo, snapshot: &Snapshot, hard_weight: i64, namespaces: &dyn NamespaceLabels) -> Self {
        let mut out = Self {
            hard_weight,
            counts: Vec::new(),
        };
        let own = &pod.shape;
        let has_own = !own.preferred_affinity.is_empty() || !own.preferred_anti_affinity.is_empty();
        let mut count = |used: &crate::snapshot::ShapeUse| {
            each_wish(pod, &used.shape, hard_weight, namespaces, |weight, term| {
                let key = &*term.topology_key;
                let (Some(number), Some(topology)) = (snapshot.topology_number(key), snapshot.topology(key)) else {
                    return;
                };
                let count = out.of(number, topology.len());
                for share in &used.shares {
                    if let Some(domain) = topology.value(share.node) {
                        count.add(domain, weight * i64::from(share.pods));
                    }
                }
            });
        };
        match has_own {
            true => snapshot.shapes().for_each(&mut count),
            // Nobody else has anything to wish.
            false => snapshot.shapes_with_affinity().for_each(&mut count),
        }
        out
    }

    fn of(&mut self, topology: usize, domains: usize) -> &mut Count {
        let at = self
            .counts
            .iter()
            .position(|c| c.topology == topology)
            .unwrap_or_else(|| {
                self.counts.push(Count::empty(topology, domains));
                self.counts.len() - 1
            });
        &mut self.counts[at]
    }

    /// `by` more pods like `other` are on the node.
    pub fn change(
        &mut self,
        pod: &PodInfo,
        other: &PodInfo,
        node: &NodeInfo,
        by: i64,
        namespaces: &dyn NamespaceLabels,
    ) {
        each_wish(pod, &other.shape, self.hard_weight, namespaces, |weight, term| {
            if let Some(number) = node.topology_number(&term.topology_key) {
                self.of(number, 0).add_on(node, weight * by);
            }
        });
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    pub fn score(&self, node: &NodeInfo) -> i64 {
        self.counts.iter().map(|c| c.on(node)).sum()
    }
}
