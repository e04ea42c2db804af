//! Constraints that only score: domains with fewer pods score higher; the more domains a topology has, the more one pod
//! weighs in it.

use std::sync::Arc;

use smallvec::SmallVec;

use super::hard::counts_for;
use crate::framework::MAX_SCORE;
use crate::node_info::NodeInfo;
use crate::shape::{PodInfo, SpreadConstraint};
use crate::snapshot::Snapshot;

struct Count {
    constraint: usize,
    topology: usize,
    /// Pods by the number of the domain.
    pods: Vec<i64>,
    /// In which round the domain was one of those scored.
    seen: Vec<u32>,
    weight: f64,
    max_skew: i64,
}

/// What Score looks at.
pub struct Soft {
    constraints: Arc<[SpreadConstraint]>,
    requires_all: bool,
    counts: Vec<Count>,
    /// Which of `counts` a node counts for, a bit each, by node number; asked only of those with pods that do.
    eligible: Vec<Option<u64>>,
    round: u32,
}

impl Soft {
    pub fn count(
        constraints: &Arc<[SpreadConstraint]>,
        requires_all: bool,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Self {
        let soft = constraints.iter().enumerate().filter(|(_, c)| !c.hard).take(64);
        let counts = soft.map(|(constraint, c)| {
            let domains = snapshot.topology(&c.topology_key).map_or(0, |t| t.len());
            Count {
                constraint,
                topology: snapshot.topology_number(&c.topology_key).unwrap_or(usize::MAX),
                pods: vec![0; domains],
                seen: vec![0; domains],
                weight: 0.0,
                max_skew: c.max_skew,
            }
        });
        let mut out = Self {
            counts: counts.collect(),
            constraints: constraints.clone(),
            requires_all,
            eligible: Vec::new(),
            round: 0,
        };
        for used in snapshot.shapes().filter(|s| s.shape.namespace() == pod.namespace()) {
            for i in 0..out.counts.len() {
                if !out.constraint(i).selector.matches_labels(used.shape.labels()) {
                    continue;
                }
                for share in &used.shares {
                    if let Some(node) = snapshot.node(share.node) {
                        out.add(i, pod, node, i64::from(share.pods - share.terminating));
                    }
                }
            }
        }
        out
    }

    fn constraint(&self, count: usize) -> &SpreadConstraint {
        &self.constraints[self.counts[count].constraint]
    }

    /// Whether it counts for these constraints.
    pub fn is_of(&self, constraints: &Arc<[SpreadConstraint]>) -> bool {
        Arc::ptr_eq(&self.constraints, constraints)
    }

    /// `by` more pods of one constraint on the node.
    fn add(&mut self, i: usize, pod: &PodInfo, node: &NodeInfo, by: i64) {
        let Some(domain) = node.domain(self.counts[i].topology) else {
            return;
        };
        let at = node.number as usize;
        if self.eligible.len() <= at {
            self.eligible.resize(at + 1, None);
        }
        let counted = match self.eligible[at] {
            Some(known) => known,
            None => {
                let soft = self.counts.iter().map(|c| &self.constraints[c.constraint]);
                let counted = if self.ignores(node) {
                    0
                } else {
                    counts_for(pod, node, soft)
                };
                self.eligible[at] = Some(counted);
                counted
            }
        };
        if counted & (1 << i) != 0 {
            self.counts[i].pods[domain] += by;
        }
    }

    /// `by` more pods like `other` are on the node.
    pub fn change(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        if other.namespace() != pod.namespace() || other.is_terminating() {
            return;
        }
        for i in 0..self.counts.len() {
            if self.constraint(i).selector.matches_labels(other.shape.labels()) {
                self.add(i, pod, node, by);
            }
        }
    }

    /// Weighs topologies by how many domains the nodes to score are in.
    pub fn weigh(&mut self, nodes: &[&NodeInfo]) {
        self.round = self.round.wrapping_add(1).max(1);
        let mut domains: SmallVec<[(usize, bool); 4]> = self.counts.iter().map(|_| (0, false)).collect();
        for node in nodes {
            if self.ignores(node) {
                continue;
            }
            for (count, (domains, without)) in self.counts.iter_mut().zip(&mut domains) {
                match node.domain(count.topology) {
                    Some(domain) if count.seen[domain] != self.round => {
                        count.seen[domain] = self.round;
                        *domains += 1;
                    }
                    Some(_) => {}
                    // Together they are one more.
                    None => *without = true,
                }
            }
        }
        for (count, (domains, without)) in self.counts.iter_mut().zip(domains) {
            count.weight = ((domains + usize::from(without) + 2) as f64).ln();
        }
    }

    fn ignores(&self, node: &NodeInfo) -> bool {
        self.requires_all && self.counts.iter().any(|c| node.domain(c.topology).is_none())
    }

    pub fn score(&self, node: &NodeInfo) -> i64 {
        if self.ignores(node) {
            return 0;
        }
        let mut score = 0.0;
        for count in &self.counts {
            if let Some(domain) = node.domain(count.topology) {
                let pods = count.pods.get(domain).copied().unwrap_or(0).max(0);
                score += pods as f64 * count.weight + (count.max_skew - 1) as f64;
            }
        }
        score.round() as i64
    }

    pub fn normalize(&self, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let counted = nodes.iter().zip(&*scores).filter(|(n, _)| !self.ignores(n));
        let (mut least, mut most) = (i64::MAX, 0);
        for (_, score) in counted {
            least = least.min(*score);
            most = most.max(*score);
        }
        for (node, score) in nodes.iter().zip(scores) {
            *score = if self.ignores(node) {
                0
            } else if most == 0 {
                MAX_SCORE
            } else {
                MAX_SCORE * (most + least - *score) / most
            };
        }
    }
}
