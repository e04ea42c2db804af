//! Constraints that keep a pod out: how many pods each domain has, and the fewest that any domain has. One more or fewer
//! is noted without a look at the other domains.

use std::sync::Arc;

use super::super::taint_toleration::admits;
use crate::framework::Rejection;
use crate::node_info::NodeInfo;
use crate::shape::{PodInfo, SpreadConstraint};
use crate::snapshot::Snapshot;

/// Not a domain: no node that counts has this value.
const ABSENT: i64 = -1;

/// The counts of one constraint.
struct Count {
    constraint: usize,
    topology: usize,
    /// Pods by the number of the domain.
    pods: Vec<i64>,
    /// How many domains have so many pods.
    levels: Vec<u32>,
    /// The first level with any.
    lowest: usize,
    domains: i64,
    /// The pod itself is one of those that are spread.
    counts_itself: bool,
}

/// What Filter looks at.
pub struct Hard {
    constraints: Arc<[SpreadConstraint]>,
    counts: Vec<Count>,
    /// Which of `counts` a node counts for, a bit each, by node number.
    eligible: Vec<u64>,
}

/// Which of the constraints a node counts for: it must have all their labels, and for each what the pod asks of nodes, as
/// far as the constraint honours that.
pub fn counts_for<'a>(pod: &PodInfo, node: &NodeInfo, constraints: impl Iterator<Item = &'a SpreadConstraint>) -> u64 {
    let wish = &pod.shape.node_wish;
    let wanted = wish.is_free() || wish.matches(&node.node);
    let admitted = node.taints().is_empty() || admits(pod.shape.tolerations(), node.taints());
    let mut out = 0;
    for (i, c) in constraints.enumerate().take(64) {
        if (wanted || !c.honor_affinity) && (admitted || !c.honor_taints) {
            out |= 1 << i;
        }
    }
    out
}

impl Count {
    /// Begins to count a domain, if it is not counted yet.
    fn open(&mut self, domain: usize) {
        if self.pods[domain] == ABSENT {
            self.pods[domain] = 0;
            self.domains += 1;
            self.enter(0);
        }
    }

    fn enter(&mut self, level: usize) {
        if self.levels.len() <= level {
            self.levels.resize(level + 1, 0);
        }
        self.levels[level] += 1;
        self.lowest = self.lowest.min(level);
    }

    /// `by` more pods in the domain.
    fn add(&mut self, domain: usize, by: i64) {
        let level = |pods: i64| usize::try_from(pods).unwrap_or(0);
        let pods = &mut self.pods[domain];
        if *pods == ABSENT || by == 0 {
            return;
        }
        let before = level(*pods);
        *pods = (*pods + by).max(0);
        let after = level(*pods);
        self.levels[before] -= 1;
        self.enter(after);
        while self.levels[self.lowest] == 0 {
            self.lowest += 1;
        }
    }

    /// The fewest pods of any domain; none, if there are too few domains.
    fn fewest(&self, min_domains: i64) -> i64 {
        match self.domains == 0 || self.domains < min_domains {
            true => 0,
            false => i64::try_from(self.lowest).unwrap_or(i64::MAX),
        }
    }
}

impl Hard {
    pub fn count(constraints: &Arc<[SpreadConstraint]>, pod: &PodInfo, snapshot: &Snapshot) -> Self {
        let hard = || constraints.iter().enumerate().filter(|(_, c)| c.hard);
        let mut counts: Vec<Count> = hard()
            .map(|(constraint, c)| Count {
                constraint,
                topology: snapshot.topology_number(&c.topology_key).unwrap_or(usize::MAX),
                pods: vec![ABSENT; snapshot.topology(&c.topology_key).map_or(0, |t| t.len())],
                levels: Vec::new(),
                lowest: usize::MAX,
                domains: 0,
                counts_itself: c.selector.matches_labels(pod.shape.labels()),
            })
            .collect();
        let mut eligible = Vec::new();
        for node in snapshot.nodes() {
            if counts.iter().any(|c| node.domain(c.topology).is_none()) {
                continue;
            }
            let mask = counts_for(pod, node, hard().map(|(_, c)| c));
            let at = node.number as usize;
            if eligible.len() <= at {
                eligible.resize(at + 1, 0);
            }
            eligible[at] = mask;
            for (i, count) in counts.iter_mut().enumerate() {
                if mask & (1 << i) != 0
                    && let Some(domain) = node.domain(count.topology)
                {
                    count.open(domain);
                }
            }
        }
        for used in snapshot.shapes().filter(|s| s.shape.namespace() == pod.namespace()) {
            for (i, count) in counts.iter_mut().enumerate() {
                let constraint = &constraints[count.constraint];
                let topology = snapshot.topology(&constraint.topology_key);
                if !constraint.selector.matches_labels(used.shape.labels()) {
                    continue;
                }
                for share in &used.shares {
                    let counted = eligible.get(share.node as usize).is_some_and(|m| m & (1 << i) != 0);
                    if counted && let Some(domain) = topology.and_then(|t| t.value(share.node)) {
                        count.add(domain, i64::from(share.pods - share.terminating));
                    }
                }
            }
        }
        Self {
            constraints: constraints.clone(),
            counts,
            eligible,
        }
    }

    /// Whether it counts for these constraints.
    pub fn is_of(&self, constraints: &Arc<[SpreadConstraint]>) -> bool {
        Arc::ptr_eq(&self.constraints, constraints)
    }

    #[inline]
    pub fn allows(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for count in &self.counts {
            let Some(domain) = node.domain(count.topology) else {
                return Err(Rejection::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let pods = count.pods.get(domain).copied().unwrap_or(0).max(0);
            let constraint = &self.constraints[count.constraint];
            if pods + i64::from(count.counts_itself) - count.fewest(constraint.min_domains) > constraint.max_skew {
                return Err(Rejection::new("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }

    /// `by` more pods like `other` are on the node.
    pub fn change(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        if other.namespace() != pod.namespace() || other.is_terminating() {
            return;
        }
        let eligible = self.eligible.get(node.number as usize).copied().unwrap_or(0);
        for (i, count) in self.counts.iter_mut().enumerate() {
            let constraint = &self.constraints[count.constraint];
            if eligible & (1 << i) != 0
                && constraint.selector.matches_labels(other.shape.labels())
                && let Some(domain) = node.domain(count.topology)
            {
                count.add(domain, by);
            }
        }
    }
}
