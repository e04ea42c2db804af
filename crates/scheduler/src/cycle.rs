//! One pod's way from the queue to a node: which nodes fit, which of them is best, and what could be done if none fits.
//! Pure: it sees a [`Snapshot`] and decides; what follows is for others.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::diagnosis::FitError;
use crate::framework::{CycleState, Failed, PostFilter, Reason, Rejection, Severity};
use crate::node_info::NodeInfo;
use crate::nominator::Nominations;
use crate::profile::{Candidates, Profile, is_resolvable};
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

/// Clusters up to this size are always searched whole.
const FEW_NODES: usize = 100;
/// However large the cluster, at least this share of it is searched.
const LEAST_PERCENT: usize = 5;

/// What is carried from one cycle to the next.
pub struct Search {
    random: StdRng,
    /// Where in the order of nodes the next cycle starts, so that all nodes have their turn.
    start: usize,
    percentage: u32,
    // Kept for their memory.
    feasible: Vec<u32>,
    totals: Vec<i64>,
    scores: Vec<i64>,
    ties: Vec<u32>,
}

/// A node for the pod.
pub struct Found {
    pub node: Arc<str>,
    pub state: CycleState,
    /// How many nodes were looked at, and how many of them fit.
    pub evaluated: usize,
    pub feasible: usize,
}

/// No node for the pod.
pub struct NotFound {
    pub error: FitError,
    pub action: PostFilter,
}

/// How many fitting nodes are enough, in a cluster of this size. A percentage of 0 means: fewer, the larger the cluster.
pub fn enough_nodes(nodes: usize, percentage: u32) -> usize {
    let percentage = percentage as usize;
    if nodes < FEW_NODES || percentage >= 100 {
        return nodes;
    }
    let percentage = match percentage {
        0 => 50_usize.saturating_sub(nodes / 125).max(LEAST_PERCENT),
        given => given,
    };
    (nodes * percentage / 100).max(FEW_NODES)
}

/// Counts reasons without making text of each.
#[derive(Default)]
struct Tally(Vec<(Reason, usize)>);

impl Tally {
    fn add(&mut self, reason: Reason) {
        match self.0.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, n)) => *n += 1,
            None => self.0.push((reason, 1)),
        }
    }
}

impl Search {
    /// Ties between nodes are broken by `seed`; `percentage` is of nodes to score, for profiles that do not say.
    pub fn new(seed: u64, percentage: u32) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            start: 0,
            percentage,
            feasible: Vec::new(),
            totals: Vec::new(),
            scores: Vec::new(),
            ties: Vec::new(),
        }
    }

    /// Finds the best node for the pod, or says why there is none and what to do about it.
    pub fn schedule(
        &mut self,
        profile: &Profile,
        pod: &PodInfo,
        snapshot: &Snapshot,
        nominations: &Nominations,
    ) -> Result<Found, Box<NotFound>> {
        let mut state = CycleState::default();
        let mut error = FitError::of(snapshot.len());
        let nothing = |error| {
            Err(Box::new(NotFound {
                error,
                action: PostFilter::default(),
            }))
        };
        if snapshot.is_empty() {
            return nothing(error);
        }
        let evaluated = match self.find(profile, &mut state, pod, snapshot, nominations, &mut error) {
            Ok(evaluated) => evaluated,
            Err(()) if error.is_error => return nothing(error),
            Err(()) => {
                return Err(Box::new(self.give_up(
                    profile,
                    state,
                    pod,
                    snapshot,
                    nominations,
                    error,
                )));
            }
        };
        let nodes: Vec<&NodeInfo> = self.feasible.iter().filter_map(|n| snapshot.node(*n)).collect();
        let node = match nodes.as_slice() {
            [only] => only.name.clone(),
            many => self.best(profile, &mut state, pod, many, snapshot),
        };
        Ok(Found {
            node,
            state,
            evaluated,
            feasible: self.feasible.len(),
        })
    }

    fn give_up(
        &mut self,
        profile: &Profile,
        mut state: CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
        nominations: &Nominations,
        mut error: FitError,
    ) -> NotFound {
        let failed = Failed {
            nominations,
            profile,
            snapshot,
            pod,
            error: &error,
        };
        let random = &mut self.random;
        let timer = profile.timer.start();
        let action = profile.post_filter(&mut state, &failed, &mut |n| random.random_range(0..n.max(1)));
        timer.post_filter(!action.victims.is_empty());
        error.post_filter.clone_from(&action.message);
        NotFound { error, action }
    }

    /// Fills `self.feasible`; how many nodes were looked at. `Err` when none fits, as `error` then tells.
    fn find(
        &mut self,
        profile: &Profile,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
        nominations: &Nominations,
        error: &mut FitError,
    ) -> Result<usize, ()> {
        self.feasible.clear();
        let timer = profile.timer.start();
        let candidates = profile.pre_filter(state, pod, snapshot);
        timer.pre_filter(candidates.is_ok());
        let candidates = match candidates {
            Ok(candidates) => candidates,
            Err((plugin, rejection)) => {
                error.reject_all(plugin, &rejection);
                if is_resolvable(&rejection) {
                    error.resolvable = snapshot.order().to_vec();
                }
                return Err(());
            }
        };
        let mut tally = Tally::default();
        // Room that preemption has made for the pod is looked at first.
        if let Some(node) = pod.nominated_node().and_then(|n| snapshot.named(n))
            && !matches!(&candidates, Candidates::Only { names, .. } if !names.contains(&node.name))
            && profile.filter_with_nominated(state, pod, node, nominations).is_ok()
        {
            self.feasible.push(node.number);
            return Ok(1);
        }
        let timer = profile.timer.start();
        let evaluated = match &candidates {
            Candidates::All => {
                let order = snapshot.order();
                let percentage = profile.percentage_of_nodes_to_score.unwrap_or(self.percentage);
                let enough = match profile.has_scores() {
                    true => enough_nodes(order.len(), percentage),
                    false => 1,
                };
                let start = self.start % order.len().max(1);
                let (behind, ahead) = order.split_at(start);
                let nodes = ahead.iter().chain(behind).filter_map(|n| snapshot.node(*n));
                let evaluated = self.filter(profile, state, pod, nodes, nominations, enough, &mut tally, error);
                self.start = (start + evaluated) % order.len().max(1);
                evaluated
            }
            Candidates::Only { names, plugins } => {
                let nodes = names.iter().filter_map(|n| snapshot.named(n));
                let all = names.len();
                let evaluated = self.filter(profile, state, pod, nodes, nominations, all, &mut tally, error);
                if evaluated < snapshot.len() {
                    let reason = format!("node(s) didn't satisfy plugin(s) [{}]", plugins.join(" "));
                    error.reasons.insert(reason, snapshot.len() - evaluated);
                    plugins.iter().copied().for_each(|plugin| error.blame(plugin));
                }
                evaluated
            }
        };
        timer.filter(!self.feasible.is_empty());
        if !self.feasible.is_empty() {
            return Ok(evaluated);
        }
        for (reason, count) in tally.0 {
            *error.reasons.entry(reason.to_string()).or_default() += count;
        }
        Err(())
    }

    #[allow(clippy::too_many_arguments)]
    fn filter<'a>(
        &mut self,
        profile: &Profile,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: impl Iterator<Item = &'a NodeInfo>,
        nominations: &Nominations,
        enough: usize,
        tally: &mut Tally,
        error: &mut FitError,
    ) -> usize {
        let mut evaluated = 0;
        for node in nodes {
            evaluated += 1;
            match profile.filter_with_nominated(state, pod, node, nominations) {
                Ok(()) => {
                    self.feasible.push(node.number);
                    if self.feasible.len() == enough {
                        break;
                    }
                }
                Err((plugin, rejection)) => reject(node, plugin, rejection, tally, error),
            }
        }
        evaluated
    }

    fn best(
        &mut self,
        profile: &Profile,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &[&NodeInfo],
        snapshot: &Snapshot,
    ) -> Arc<str> {
        for buffer in [&mut self.totals, &mut self.scores] {
            buffer.clear();
            buffer.resize(nodes.len(), 0);
        }
        let timer = profile.timer.start();
        profile.pre_score(state, pod, nodes, snapshot);
        timer.pre_score();
        let timer = profile.timer.start();
        profile.score(state, pod, nodes, &mut self.totals, &mut self.scores);
        timer.score();
        let top = self.totals.iter().copied().max().unwrap_or_default();
        self.ties.clear();
        for (at, total) in (0_u32..).zip(&self.totals) {
            if *total == top {
                self.ties.push(at);
            }
        }
        let chosen = self.ties[self.random.random_range(0..self.ties.len().max(1))];
        nodes[chosen as usize].name.clone()
    }
}

fn reject(node: &NodeInfo, plugin: &'static str, rejection: Rejection, tally: &mut Tally, error: &mut FitError) {
    match rejection.severity {
        Severity::Unschedulable => error.resolvable.push(node.number),
        Severity::Unresolvable | Severity::Error => error.unresolvable.push(node.number),
    }
    error.blame(plugin);
    for reason in rejection.reasons {
        tally.add(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_clusters_are_searched_in_part_as_documented() {
        for (nodes, percentage, expected) in [
            (0, 0, 0),
            (10, 0, 10),
            (99, 10, 99),
            (100, 0, 100),
            (1000, 0, 420),
            (1000, 100, 1000),
            (1000, 30, 300),
            (1000, 5, 100),
            (5000, 0, 500),
            (6000, 0, 300),
            (10_000, 0, 500),
        ] {
            assert_eq!(
                enough_nodes(nodes, percentage),
                expected,
                "{nodes} nodes, {percentage} %"
            );
        }
    }
}
