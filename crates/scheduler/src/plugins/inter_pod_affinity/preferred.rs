//! Preferred terms: the weights of all that speak for or against a domain, from both sides.

use super::{Count, speaks_of};
use crate::affinity_term::{AffinityTerm, NamespaceLabels};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;
use crate::snapshot::{ShapeUse, Snapshot};

/// What Score looks at: weights by domain, per topology.
pub struct Preferred(Vec<Count>);

impl Preferred {
    pub fn count(pod: &PodInfo, snapshot: &Snapshot, hard_weight: i64, namespaces: &dyn NamespaceLabels) -> Self {
        let mut out = Self(Vec::new());
        let own = &pod.shape;
        let signed = |terms: &'_ [(i64, AffinityTerm)], sign: i64| -> Vec<(i64, AffinityTerm)> {
            terms.iter().map(|(weight, t)| (weight * sign, t.clone())).collect()
        };
        let mut wishes = signed(&own.preferred_affinity, 1);
        wishes.extend(signed(&own.preferred_anti_affinity, -1));
        if !wishes.is_empty() {
            for used in snapshot.shapes() {
                for (weight, term) in &wishes {
                    if term.matches(used.shape.namespace(), used.shape.labels(), namespaces) {
                        out.add(*weight, term, used, snapshot);
                    }
                }
            }
        }
        for used in snapshot.shapes_with_affinity() {
            let theirs = &used.shape;
            if hard_weight > 0 {
                for term in theirs
                    .required_affinity
                    .iter()
                    .filter(|t| speaks_of(t, pod, namespaces))
                {
                    out.add(hard_weight, term, used, snapshot);
                }
            }
            for (sign, terms) in [(1, &theirs.preferred_affinity), (-1, &theirs.preferred_anti_affinity)] {
                for (weight, term) in terms.iter().filter(|(_, t)| speaks_of(t, pod, namespaces)) {
                    out.add(weight * sign, term, used, snapshot);
                }
            }
        }
        out
    }

    fn add(&mut self, weight: i64, term: &AffinityTerm, used: &ShapeUse, snapshot: &Snapshot) {
        let key = &*term.topology_key;
        let (Some(number), Some(topology)) = (snapshot.topology_number(key), snapshot.topology(key)) else {
            return;
        };
        let at = self.0.iter().position(|c| c.topology == number).unwrap_or_else(|| {
            self.0.push(Count::of(number, snapshot, key));
            self.0.len() - 1
        });
        for share in &used.shares {
            if let Some(domain) = topology.value(share.node) {
                self.0[at].add(domain, weight * i64::from(share.pods));
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn score(&self, node: &NodeInfo) -> i64 {
        self.0.iter().map(|c| c.on(node)).sum()
    }
}
