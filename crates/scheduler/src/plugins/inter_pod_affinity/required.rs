//! Required terms: where pods are that this one must be with, must not be with, or that must not be with it.

use std::sync::Arc;

use super::{Count, speaks_of};
use crate::affinity_term::{AffinityTerm, NamespaceLabels};
use crate::framework::Rejection;
use crate::node_info::NodeInfo;
use crate::shape::{PodInfo, Shape};
use crate::snapshot::Snapshot;

/// What Filter looks at.
pub struct Required {
    shape: Arc<Shape>,
    /// Per required affinity term: pods that match all of these terms.
    with: Vec<Count>,
    /// The pod would be what it looks for itself.
    suits_itself: bool,
    /// Per required anti-affinity term: pods that match it.
    apart: Vec<Count>,
    /// Placed pods that must not be with this one, by the topologies they say.
    shunned_by: Vec<Count>,
}

fn all_match(terms: &[AffinityTerm], other: &Shape, namespaces: &dyn NamespaceLabels) -> bool {
    !terms.is_empty()
        && terms
            .iter()
            .all(|t| t.matches(other.namespace(), other.labels(), namespaces))
}

fn counts(terms: &[AffinityTerm], snapshot: &Snapshot) -> Vec<Count> {
    let count = |t: &AffinityTerm| {
        let topology = snapshot.topology_number(&t.topology_key).unwrap_or(usize::MAX);
        Count::of(topology, snapshot, &t.topology_key)
    };
    terms.iter().map(count).collect()
}

impl Required {
    pub fn count(pod: &PodInfo, snapshot: &Snapshot, namespaces: &dyn NamespaceLabels) -> Self {
        let shape = &pod.shape;
        let mut out = Self {
            shape: shape.clone(),
            with: counts(&shape.required_affinity, snapshot),
            suits_itself: all_match(&shape.required_affinity, shape, namespaces),
            apart: counts(&shape.required_anti_affinity, snapshot),
            shunned_by: Vec::new(),
        };
        for used in snapshot.shapes_with_affinity() {
            for term in used
                .shape
                .required_anti_affinity
                .iter()
                .filter(|t| speaks_of(t, pod, namespaces))
            {
                let Some(number) = snapshot.topology_number(&term.topology_key) else {
                    continue;
                };
                let at = out
                    .shunned_by
                    .iter()
                    .position(|c| c.topology == number)
                    .unwrap_or_else(|| {
                        out.shunned_by.push(Count::of(number, snapshot, &term.topology_key));
                        out.shunned_by.len() - 1
                    });
                for share in &used.shares {
                    if let Some(domain) = snapshot.topology(&term.topology_key).and_then(|t| t.value(share.node)) {
                        out.shunned_by[at].add(domain, share.pods.into());
                    }
                }
            }
        }
        if out.with.is_empty() && out.apart.is_empty() {
            return out;
        }
        for used in snapshot.shapes() {
            let (with, apart) = (
                all_match(&shape.required_affinity, &used.shape, namespaces),
                shape.required_anti_affinity.iter(),
            );
            let add = |count: &mut Count, key: &str| {
                for share in &used.shares {
                    if let Some(domain) = snapshot.topology(key).and_then(|t| t.value(share.node)) {
                        count.add(domain, share.pods.into());
                    }
                }
            };
            if with {
                for (count, term) in out.with.iter_mut().zip(&shape.required_affinity) {
                    add(count, &term.topology_key);
                }
            }
            for (count, term) in out.apart.iter_mut().zip(apart) {
                if term.matches(used.shape.namespace(), used.shape.labels(), namespaces) {
                    add(count, &term.topology_key);
                }
            }
        }
        out
    }

    /// Nothing required anywhere. Those that must not be with the pod may be gone since they were counted.
    pub fn is_empty(&self) -> bool {
        self.with.is_empty() && self.apart.is_empty() && self.shunned_by.iter().all(|c| c.total == 0)
    }

    #[inline]
    pub fn allows(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.is_with(node) {
            return Err(Rejection::unresolvable("node(s) didn't match pod affinity rules"));
        }
        if self.apart.iter().any(|c| c.on(node) > 0) {
            return Err(Rejection::new("node(s) didn't match pod anti-affinity rules"));
        }
        if self.shunned_by.iter().any(|c| c.on(node) > 0) {
            return Err(Rejection::new(
                "node(s) didn't satisfy existing pods anti-affinity rules",
            ));
        }
        Ok(())
    }

    fn is_with(&self, node: &NodeInfo) -> bool {
        if self.with.iter().any(|c| node.domain(c.topology).is_none()) {
            return false;
        }
        // The first of pods that want each other may go anywhere.
        self.with.iter().all(|c| c.on(node) > 0) || (self.suits_itself && self.with.iter().all(|c| c.total == 0))
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
        for term in other
            .shape
            .required_anti_affinity
            .iter()
            .filter(|t| speaks_of(t, pod, namespaces))
        {
            let Some(number) = node.topology_number(&term.topology_key) else {
                continue;
            };
            let at = self
                .shunned_by
                .iter()
                .position(|c| c.topology == number)
                .unwrap_or_else(|| {
                    self.shunned_by.push(Count::empty(number, 0));
                    self.shunned_by.len() - 1
                });
            self.shunned_by[at].add_on(node, by);
        }
        if all_match(&self.shape.required_affinity, &other.shape, namespaces) {
            self.with.iter_mut().for_each(|count| count.add_on(node, by));
        }
        for (count, term) in self.apart.iter_mut().zip(&self.shape.required_anti_affinity) {
            if speaks_of(term, other, namespaces) {
                count.add_on(node, by);
            }
        }
    }
}
