//! One pod's way from the queue to a node: which nodes fit, which of them is best, and what could be done if none fits.
//! Pure: it sees a [`Snapshot`] and decides; what follows is for others. What it found out for one pod serves the next one
//! alike ([`memo`]).

mod memo;

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::diagnosis::{FitError, Tally};
use crate::framework::{CycleState, Failed, Point, PostFilter, Rejection, Severity};
use crate::node_info::NodeInfo;
use crate::nominator::Nominations;
use crate::profile::{Candidates, Profile, is_resolvable};
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

use memo::{Memo, Memos, Verdict};

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
    memos: Memos,
    // Kept for their memory.
    feasible: Vec<u32>,
    lasting: Vec<usize>,
    other: Vec<usize>,
    scorers: Vec<(usize, bool)>,
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
#[derive(Debug)]
pub struct NotFound {
    pub error: FitError,
    pub action: PostFilter,
}

/// What a cycle goes by.
#[derive(Clone, Copy)]
struct Question<'a> {
    profile: &'a Profile,
    pod: &'a PodInfo,
    snapshot: &'a Snapshot,
    nominations: &'a Nominations,
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

impl Search {
    /// Ties between nodes are broken by `seed`; `percentage` is of nodes to score, for profiles that do not say.
    pub fn new(seed: u64, percentage: u32) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            start: 0,
            percentage,
            memos: Memos::default(),
            feasible: Vec::new(),
            lasting: Vec::new(),
            other: Vec::new(),
            scorers: Vec::new(),
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
        if snapshot.is_empty() {
            return Err(Box::new(NotFound {
                error: FitError::of(0),
                action: PostFilter::default(),
            }));
        }
        let question = Question {
            profile,
            pod,
            snapshot,
            nominations,
        };
        let by_node = profile.reuse(pod);
        let mut memo = self.memos.take(profile, pod, by_node, snapshot);
        let outcome = self.run(question, &mut memo);
        let state = match by_node {
            // Nobody needs it after the cycle.
            Some(_) => {
                self.memos.keep(memo);
                CycleState::default()
            }
            None => memo.state,
        };
        outcome.map(|(node, evaluated)| Found {
            node,
            state,
            evaluated,
            feasible: self.feasible.len(),
        })
    }

    /// The node, and how many were looked at.
    fn run(&mut self, question: Question<'_>, memo: &mut Memo) -> Result<(Arc<str>, usize), Box<NotFound>> {
        let mut error = FitError::of(question.snapshot.len());
        let Ok(evaluated) = self.find(question, memo, &mut error) else {
            let action = match error.is_error {
                true => PostFilter::default(),
                false => self.give_up(question, memo, &error),
            };
            error.post_filter.clone_from(&action.message);
            return Err(Box::new(NotFound { error, action }));
        };
        let snapshot = question.snapshot;
        let nodes: Vec<&NodeInfo> = self.feasible.iter().filter_map(|n| snapshot.node(*n)).collect();
        let node = match nodes.as_slice() {
            [only] => only.name.clone(),
            many => self.best(question, memo, many),
        };
        Ok((node, evaluated))
    }

    fn give_up(&mut self, question: Question<'_>, memo: &mut Memo, error: &FitError) -> PostFilter {
        let Question {
            profile,
            pod,
            snapshot,
            nominations,
        } = question;
        profile.split_filters(&memo.state, memo.by_node, &mut self.lasting, &mut self.other);
        let failed = Failed {
            nominations,
            profile,
            snapshot,
            pod,
            error,
            by_node_alone: self.other.is_empty(),
        };
        let random = &mut self.random;
        let timer = profile.timer.start();
        let action = profile.post_filter(&mut memo.state, &failed, &mut |n| random.random_range(0..n.max(1)));
        timer.end(Point::PostFilter, !action.victims.is_empty());
        action
    }

    /// Fills `self.feasible`; how many nodes were looked at. `Err` when none fits, as `error` then tells.
    fn find(&mut self, question: Question<'_>, memo: &mut Memo, error: &mut FitError) -> Result<usize, ()> {
        let Question {
            profile,
            pod,
            snapshot,
            nominations,
        } = question;
        self.feasible.clear();
        let timer = profile.timer.start();
        let candidates = profile.pre_filter(&mut memo.state, pod, snapshot);
        timer.end(Point::PreFilter, candidates.is_ok());
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
        // Room that preemption has made for the pod is looked at first.
        if let Some(node) = pod.nominated_node().and_then(|n| snapshot.named(n))
            && !matches!(&candidates, Candidates::Only { names, .. } if !names.contains(&node.name))
            && profile
                .filter_with_nominated(&mut memo.state, pod, node, nominations)
                .is_ok()
        {
            self.feasible.push(node.number);
            return Ok(1);
        }
        let timer = profile.timer.start();
        let evaluated = match &candidates {
            Candidates::All => self.search(question, memo, error),
            Candidates::Only { names, plugins } => {
                let evaluated = self.search_named(question, memo, names, error);
                if evaluated < snapshot.len() {
                    let reason = format!("node(s) didn't satisfy plugin(s) [{}]", plugins.join(" "));
                    error.reasons.insert(reason, snapshot.len() - evaluated);
                    plugins.iter().copied().for_each(|plugin| error.blame(plugin));
                }
                evaluated
            }
        };
        timer.end(Point::Filter, !self.feasible.is_empty());
        match self.feasible.is_empty() {
            true => Err(()),
            false => Ok(evaluated),
        }
    }

    /// Looks at nodes in their order, from where the last search ended, until enough fit.
    fn search(&mut self, question: Question<'_>, memo: &mut Memo, error: &mut FitError) -> usize {
        let Question {
            profile,
            pod,
            snapshot,
            nominations,
        } = question;
        let order = snapshot.order();
        let percentage = profile.percentage_of_nodes_to_score.unwrap_or(self.percentage);
        let enough = match profile.has_scores() {
            true => enough_nodes(order.len(), percentage),
            false => 1,
        };
        let start = self.start % order.len().max(1);
        let (behind, ahead) = order.split_at(start);
        let generations = snapshot.generations();
        let awaited = nominations.numbers(snapshot);
        let own = nominations.node(pod.uid()).and_then(|node| snapshot.number(node));
        let Memo {
            by_node,
            state,
            verdicts,
            ..
        } = memo;
        profile.split_filters(state, *by_node, &mut self.lasting, &mut self.other);
        verdicts.of(&self.lasting, snapshot);
        let mut tally = Tally::default();
        let mut rejected = [0_usize; u8::MAX as usize];
        let mut evaluated = 0;
        for &number in ahead.iter().chain(behind) {
            evaluated += 1;
            let version = match awaited.is_empty() {
                true => 0,
                false => match awaited.binary_search_by_key(&number, |(node, _)| *node) {
                    Ok(at) => awaited[at].1,
                    Err(_) => 0,
                },
            };
            // A pod leaves no room for itself: there it is not like others of its shape.
            let verdict = if version != 0 && (!self.other.is_empty() || own == Some(number)) {
                let Some(node) = snapshot.node(number) else { continue };
                profile.filter_with_nominated(state, pod, node, nominations)
            } else {
                let moment = (generations[number as usize], version);
                let mut verdict = verdicts.get(number, moment);
                if matches!(verdict, Verdict::Unknown) {
                    let Some(node) = snapshot.node(number) else { continue };
                    let said = match version {
                        0 => profile.filter_by(&self.lasting, state, pod, node),
                        _ => profile.filter_with_nominated(state, pod, node, nominations),
                    };
                    match said {
                        Ok(()) => {
                            verdicts.put(number, moment, None);
                            verdict = Verdict::Fits;
                        }
                        Err(rejection) => match verdicts.put(number, moment, Some(&rejection)) {
                            Some(number) => verdict = Verdict::Rejected(number),
                            None => {
                                reject(number, &rejection, error);
                                rejection.1.reasons.iter().for_each(|r| tally.add(r, 1));
                                continue;
                            }
                        },
                    }
                }
                match verdict {
                    Verdict::Rejected(which) => {
                        rejected[which as usize] += 1;
                        reject(number, &verdicts.rejections()[which as usize], error);
                        continue;
                    }
                    _ if self.other.is_empty() => Ok(()),
                    _ => {
                        let Some(node) = snapshot.node(number) else { continue };
                        profile.filter_by(&self.other, state, pod, node)
                    }
                }
            };
            match verdict {
                Ok(()) => {
                    self.feasible.push(number);
                    if self.feasible.len() == enough {
                        break;
                    }
                }
                Err(rejection) => {
                    reject(number, &rejection, error);
                    rejection.1.reasons.iter().for_each(|r| tally.add(r, 1));
                }
            }
        }
        for ((_, rejection), count) in verdicts.rejections().iter().zip(rejected).filter(|(_, n)| *n > 0) {
            rejection.reasons.iter().for_each(|r| tally.add(r, count));
        }
        tally.into_error(error);
        self.start = (start + evaluated) % order.len().max(1);
        evaluated
    }

    /// Looks at all nodes that PreFilter has left.
    fn search_named(
        &mut self,
        question: Question<'_>,
        memo: &mut Memo,
        names: &BTreeSet<Arc<str>>,
        error: &mut FitError,
    ) -> usize {
        let mut tally = Tally::default();
        let mut evaluated = 0;
        for node in names.iter().filter_map(|n| question.snapshot.named(n)) {
            evaluated += 1;
            let Question { profile, pod, .. } = question;
            match profile.filter_with_nominated(&mut memo.state, pod, node, question.nominations) {
                Ok(()) => self.feasible.push(node.number),
                Err(rejection) => {
                    reject(node.number, &rejection, error);
                    rejection.1.reasons.iter().for_each(|r| tally.add(r, 1));
                }
            }
        }
        tally.into_error(error);
        evaluated
    }

    fn best(&mut self, question: Question<'_>, memo: &mut Memo, nodes: &[&NodeInfo]) -> Arc<str> {
        let Question {
            profile, pod, snapshot, ..
        } = question;
        for buffer in [&mut self.totals, &mut self.scores] {
            buffer.clear();
            buffer.resize(nodes.len(), 0);
        }
        let timer = profile.timer.start();
        profile.pre_score(&mut memo.state, pod, nodes, snapshot);
        timer.end(Point::PreScore, true);
        let timer = profile.timer.start();
        let (state, known) = (&memo.state, &mut memo.scores);
        self.scorers.clear();
        self.scorers.extend(profile.scorers(state, memo.by_node));
        self.lasting.clear();
        self.lasting
            .extend(self.scorers.iter().filter(|(_, lasts)| *lasts).map(|(n, _)| *n));
        known.settle(&self.lasting, profile, state, pod, nodes, snapshot);
        for &(plugin, lasts) in &self.scorers {
            if lasts {
                known.read(plugin, nodes, &mut self.scores);
            } else {
                for (score, node) in self.scores.iter_mut().zip(nodes) {
                    *score = profile.score_by(plugin, state, pod, node);
                }
            }
            profile.add_up(plugin, state, nodes, &mut self.totals, &mut self.scores);
        }
        timer.end(Point::Score, true);
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

/// Notes who turned a node down, and whether evicting may help there.
#[inline]
fn reject(node: u32, (plugin, rejection): &(&'static str, Rejection), error: &mut FitError) {
    match rejection.severity {
        Severity::Unschedulable => error.resolvable.push(node),
        Severity::Unresolvable | Severity::Error => error.unresolvable.push(node),
    }
    error.blame(plugin);
}

#[cfg(test)]
mod tests;
