//! Constraints that only score: domains with fewer pods score higher; the more domains a topology has, the more one pod
//! weighs in it.

use std::sync::Arc;

use super::hard::counts_for;
use crate::framework::MAX_SCORE;
use crate::node_info::NodeInfo;
use crate::shape::{PodInfo, SpreadConstraint};
use crate::snapshot::Snapshot;

const ABSENT: i64 = -1;

struct Count {
    topology: usize,
    /// Pods by the number of the domain; only domains of nodes that are scored.
    pods: Vec<i64>,
    weight: f64,
    max_skew: i64,
}

/// What Score looks at.
pub struct Soft {
    requires_all: bool,
    counts: Vec<Count>,
}

impl Soft {
    pub fn count(
        constraints: &Arc<[SpreadConstraint]>,
        requires_all: bool,
        pod: &PodInfo,
        nodes: &[&NodeInfo],
        snapshot: &Snapshot,
    ) -> Self {
        let soft: Vec<&SpreadConstraint> = constraints.iter().filter(|c| !c.hard).collect();
        let counts = soft.iter().map(|c| Count {
            topology: snapshot.topology_number(&c.topology_key).unwrap_or(usize::MAX),
            pods: vec![ABSENT; snapshot.topology(&c.topology_key).map_or(0, |t| t.len())],
            weight: 0.0,
            max_skew: c.max_skew,
        });
        let mut out = Self {
            requires_all,
            counts: counts.collect(),
        };
        out.size(nodes);
        // Whether a node counts is asked only of those with pods that do.
        let mut known: Vec<Option<u64>> = Vec::new();
        for used in snapshot.shapes().filter(|s| s.shape.namespace() == pod.namespace()) {
            for (i, constraint) in soft.iter().enumerate().take(64) {
                let Some(topology) = snapshot.topology(&constraint.topology_key) else {
                    continue;
                };
                if !constraint.selector.matches_labels(used.shape.labels()) {
                    continue;
                }
                for share in &used.shares {
                    let Some(domain) = topology.value(share.node).filter(|d| out.counts[i].pods[*d] != ABSENT) else {
                        continue;
                    };
                    let at = share.node as usize;
                    if known.len() <= at {
                        known.resize(at + 1, None);
                    }
                    let counted = *known[at].get_or_insert_with(|| match snapshot.node(share.node) {
                        Some(node) if !out.ignores(node) => counts_for(pod, node, soft.iter().copied()),
                        _ => 0,
                    });
                    if counted & (1 << i) != 0 {
                        out.counts[i].pods[domain] += i64::from(share.pods - share.terminating);
                    }
                }
            }
        }
        out
    }

    /// Notes the domains of the nodes to score, and weighs topologies by how many there are.
    fn size(&mut self, nodes: &[&NodeInfo]) {
        let scored: Vec<&&NodeInfo> = nodes.iter().filter(|n| !self.ignores(n)).collect();
        for count in &mut self.counts {
            let (mut domains, mut without) = (0_usize, 0_usize);
            for node in &scored {
                match node.domain(count.topology) {
                    Some(domain) if count.pods[domain] == ABSENT => {
                        count.pods[domain] = 0;
                        domains += 1;
                    }
                    Some(_) => {}
                    None => without = 1,
                }
            }
            count.weight = ((domains + without + 2) as f64).ln();
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
