//! What earlier cycles found out for pods of one shape: the plugins' state, verdicts on nodes, scores. A node's verdict
//! and scores hold as long as its generation; the state is carried along with the pods that come and go.

use std::sync::Arc;

use crate::framework::{CycleState, Rejection};
use crate::node_info::NodeInfo;
use crate::profile::Profile;
use crate::shape::{PodInfo, Shape};
use crate::snapshot::{Moment, Snapshot};

/// So many shapes are remembered: Deployments that grow at the same time.
const MOST_SHAPES: usize = 8;
/// So many different rejections: plugins may name the node in theirs.
const MOST_REJECTIONS: usize = 64;

/// See the [module](self).
pub(super) struct Memo {
    shape: Arc<Shape>,
    scheduler_name: String,
    moment: Moment,
    /// The plugins of `Reuse::Node`.
    pub by_node: u64,
    pub state: CycleState,
    pub verdicts: Verdicts,
    pub scores: Scores,
}

/// The memos of some shapes, the one used last at the end.
#[derive(Default)]
pub(super) struct Memos(Vec<Memo>);

impl Memos {
    /// What is known for pods like this one, up to date; to be [kept](Self::keep) after the cycle.
    pub fn take(&mut self, profile: &Profile, pod: &PodInfo, by_node: Option<u64>, snapshot: &Snapshot) -> Memo {
        let Some(by_node) = by_node else {
            return Memo::new(profile, pod, 0, snapshot);
        };
        let same = |m: &Memo| Arc::ptr_eq(&m.shape, &pod.shape) && m.scheduler_name == profile.scheduler_name;
        let known = self.0.iter().position(same).map(|at| self.0.remove(at));
        let old = match known {
            Some(mut memo) => {
                if memo.by_node == by_node && memo.catch_up(profile, pod, snapshot) {
                    return memo;
                }
                Some(memo)
            }
            // The one not used for longest.
            None if self.0.len() == MOST_SHAPES => Some(self.0.remove(0)),
            None => None,
        };
        // Its memory is used again: there are as many nodes as before.
        let mut memo = Memo::new(profile, pod, by_node, snapshot);
        if let Some(old) = old {
            (memo.verdicts, memo.scores) = (old.verdicts, old.scores);
            memo.verdicts.forget();
            memo.scores.forget();
        }
        memo
    }

    pub fn keep(&mut self, memo: Memo) {
        self.0.push(memo);
    }
}

impl Memo {
    fn new(profile: &Profile, pod: &PodInfo, by_node: u64, snapshot: &Snapshot) -> Self {
        Self {
            shape: pod.shape.clone(),
            scheduler_name: profile.scheduler_name.clone(),
            moment: snapshot.now(),
            by_node,
            state: CycleState::default(),
            verdicts: Verdicts::default(),
            scores: Scores::default(),
        }
    }

    /// `false`: too much has happened.
    fn catch_up(&mut self, profile: &Profile, pod: &PodInfo, snapshot: &Snapshot) -> bool {
        let Some(changes) = snapshot.since(self.moment) else {
            return false;
        };
        for change in changes {
            if let Some(node) = snapshot.node(change.node) {
                profile.carry(&mut self.state, pod, change, node);
            }
        }
        self.moment = snapshot.now();
        true
    }
}

/// What filters said of nodes: it holds for one generation of the node and, where pods are nominated to it, for one version
/// of those.
#[derive(Default)]
pub(super) struct Verdicts {
    /// The filters that said it.
    filters: Vec<usize>,
    /// By node number: when it was said.
    moments: Vec<(u64, u64)>,
    /// By node number: 0, or which of `rejections` counted from 1.
    verdicts: Vec<u8>,
    rejections: Vec<(&'static str, Rejection)>,
}

/// What is remembered of a node.
pub(super) enum Verdict {
    Unknown,
    Fits,
    /// By its number, for [`Verdicts::rejection`].
    Rejected(u8),
}

impl Verdicts {
    fn forget(&mut self) {
        self.moments.fill((0, 0));
        self.rejections.clear();
    }

    /// Only what these filters said counts.
    pub fn of(&mut self, filters: &[usize], snapshot: &Snapshot) {
        let nodes = snapshot.generations().len();
        if self.filters != filters {
            self.forget();
            self.filters = filters.to_vec();
        }
        self.moments.resize(nodes, (0, 0));
        self.verdicts.resize(nodes, 0);
    }

    #[inline]
    pub fn get(&self, node: u32, moment: (u64, u64)) -> Verdict {
        let at = node as usize;
        match self.moments.get(at) {
            Some(&known) if known == moment => match self.verdicts[at] {
                0 => Verdict::Fits,
                rejected => Verdict::Rejected(rejected - 1),
            },
            _ => Verdict::Unknown,
        }
    }

    /// The number of the rejection, unless there are too many to remember.
    pub fn put(&mut self, node: u32, moment: (u64, u64), verdict: Option<&(&'static str, Rejection)>) -> Option<u8> {
        let number = match verdict {
            None => 0,
            Some(rejection) => match self.rejections.iter().position(|r| r == rejection) {
                Some(at) => at + 1,
                None if self.rejections.len() == MOST_REJECTIONS => return None,
                None => {
                    self.rejections.push(rejection.clone());
                    self.rejections.len()
                }
            },
        };
        let number = u8::try_from(number).ok()?;
        self.moments[node as usize] = moment;
        self.verdicts[node as usize] = number;
        number.checked_sub(1)
    }

    pub fn rejections(&self) -> &[(&'static str, Rejection)] {
        &self.rejections
    }
}

/// What plugins gave nodes, before it is normalized.
#[derive(Default)]
pub(super) struct Scores {
    plugins: Vec<usize>,
    /// By node number: when it was given.
    generations: Vec<u64>,
    /// By node number and plugin.
    rows: Vec<i64>,
}

impl Scores {
    fn forget(&mut self) {
        self.generations.fill(0);
    }

    /// Makes sure that what these plugins give these nodes is known.
    pub fn settle(
        &mut self,
        plugins: &[usize],
        profile: &Profile,
        state: &CycleState,
        pod: &PodInfo,
        nodes: &[&NodeInfo],
        snapshot: &Snapshot,
    ) {
        let count = snapshot.generations().len();
        if self.plugins != plugins {
            self.forget();
            self.plugins = plugins.to_vec();
        }
        self.generations.resize(count, 0);
        self.rows.resize(count * plugins.len(), 0);
        for node in nodes {
            let at = node.number as usize;
            let generation = snapshot.generations()[at];
            if self.generations[at] != generation {
                self.generations[at] = generation;
                let row = &mut self.rows[at * plugins.len()..];
                for (score, number) in row.iter_mut().zip(plugins) {
                    *score = profile.score_by(*number, state, pod, node);
                }
            }
        }
    }

    /// What the plugin gives each of the nodes.
    pub fn read(&self, plugin: usize, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let width = self.plugins.len();
        let Some(column) = self.plugins.iter().position(|p| *p == plugin) else {
            return;
        };
        for (score, node) in scores.iter_mut().zip(nodes) {
            *score = self.rows[node.number as usize * width + column];
        }
    }
}
