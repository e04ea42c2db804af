//! The scheduling framework: the extension points a plugin may take part in, and a profile that runs plugins in order.
//!
//! A cycle for one pod: PreFilter, Filter on each node, (PostFilter if none fits), PreScore, Score, NormalizeScore,
//! Reserve, Permit; then, off the loop, PreBind, Bind, PostBind. PreEnqueue and queueing hints belong to the queue.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::cache::{Cache, NodeInfo, PodInfo};

/// The most a plugin may give a node; also what NormalizeScore scales to.
pub const MAX_SCORE: i64 = 100;

/// Why a node, or the pod as a whole, was turned down: upstream's words, counted per reason in `FailedScheduling`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reasons: Vec<String>,
    /// Evicting other pods would not help.
    pub unresolvable: bool,
}

impl Rejection {
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reasons: vec![reason.into()],
            unresolvable: false,
        }
    }

    pub fn unresolvable(reason: impl Into<String>) -> Self {
        Self {
            reasons: vec![reason.into()],
            unresolvable: true,
        }
    }
}

/// What plugins remember between the extension points of one cycle, by plugin name.
#[derive(Default)]
pub struct CycleState {
    slots: HashMap<&'static str, Box<dyn Any + Send + Sync>>,
}

impl CycleState {
    pub fn put<T: Any + Send + Sync>(&mut self, plugin: &'static str, value: T) {
        self.slots.insert(plugin, Box::new(value));
    }

    pub fn get<T: Any>(&self, plugin: &'static str) -> Option<&T> {
        self.slots.get(plugin)?.downcast_ref()
    }
}

/// Something that happened in the cluster and may let a waiting pod fit.
#[derive(Clone, Debug)]
pub enum ClusterEvent<'a> {
    NodeAdded(&'a Node),
    NodeChanged {
        old: &'a Node,
        new: &'a Node,
    },
    /// A pod left a node, by deletion or by finishing.
    PodGone(&'a Pod),
    /// A pod came to a node.
    PodPlaced(&'a Pod),
}

/// A plugin takes part in the extension points that it overrides. All of them are synchronous: a cycle runs on what is
/// in memory.
pub trait Plugin: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// May the pod enter the active queue at all?
    fn pre_enqueue(&self, _pod: &Pod) -> Result<(), Rejection> {
        Ok(())
    }

    /// Computes what Filter will need; an error turns the pod down on every node.
    fn pre_filter(&self, _state: &mut CycleState, _pod: &PodInfo, _cache: &Cache) -> Result<(), Rejection> {
        Ok(())
    }

    fn filter(&self, _state: &CycleState, _pod: &PodInfo, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// Whether [`score`](Self::score) means anything for this plugin.
    fn scores(&self) -> bool {
        false
    }

    fn pre_score(&self, _state: &mut CycleState, _pod: &PodInfo, _nodes: &[&NodeInfo]) {}

    fn score(&self, _state: &CycleState, _pod: &PodInfo, _node: &NodeInfo) -> i64 {
        0
    }

    /// Brings the scores of all nodes into 0..=[`MAX_SCORE`].
    fn normalize(&self, _state: &CycleState, _scores: &mut [i64]) {}

    /// A queueing hint: could `event` let a pod that this plugin turned down fit now?
    fn may_help(&self, _event: &ClusterEvent<'_>, _pod: &PodInfo) -> bool {
        true
    }
}

/// The plugins of one scheduler name, with the weights of those that score.
pub struct Profile {
    pub scheduler_name: String,
    plugins: Vec<(Box<dyn Plugin>, i64)>,
}

/// No node fits: how many were looked at, and what each plugin said of how many.
#[derive(Clone, Debug, Default)]
pub struct FitError {
    pub nodes: usize,
    pub reasons: BTreeMap<String, usize>,
    /// Names of the plugins that turned the pod down somewhere.
    pub plugins: Vec<&'static str>,
    /// Turned down before any node was looked at.
    pub pre_filter: Option<String>,
}

impl std::fmt::Display for FitError {
    /// As upstream says it in the event: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available", self.nodes)?;
        if let Some(message) = &self.pre_filter {
            return write!(f, ": {message}.");
        }
        let mut counted: Vec<String> = self.reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        counted.sort();
        if counted.is_empty() {
            f.write_str(".")
        } else {
            write!(f, ": {}.", counted.join(", "))
        }
    }
}

impl Profile {
    pub fn new(scheduler_name: impl Into<String>, plugins: Vec<(Box<dyn Plugin>, i64)>) -> Self {
        Self {
            scheduler_name: scheduler_name.into(),
            plugins,
        }
    }

    pub fn pre_enqueue(&self, pod: &Pod) -> Result<(), (&'static str, Rejection)> {
        self.plugins
            .iter()
            .try_for_each(|(p, _)| p.pre_enqueue(pod).map_err(|r| (p.name(), r)))
    }

    /// Finds the best node for the pod, or says why there is none. Ties go to `pick(how many)`.
    pub fn schedule(
        &self,
        pod: &PodInfo,
        cache: &Cache,
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> Result<std::sync::Arc<str>, FitError> {
        let mut error = FitError {
            nodes: cache.node_count(),
            ..FitError::default()
        };
        let mut state = CycleState::default();
        for (plugin, _) in &self.plugins {
            if let Err(rejection) = plugin.pre_filter(&mut state, pod, cache) {
                error.pre_filter = Some(rejection.reasons.join(", "));
                error.plugins.push(plugin.name());
                return Err(error);
            }
        }
        let mut feasible: Vec<&NodeInfo> = Vec::new();
        'nodes: for node in cache.nodes() {
            for (plugin, _) in &self.plugins {
                if let Err(rejection) = plugin.filter(&state, pod, node) {
                    for reason in rejection.reasons {
                        *error.reasons.entry(reason).or_default() += 1;
                    }
                    if !error.plugins.contains(&plugin.name()) {
                        error.plugins.push(plugin.name());
                    }
                    continue 'nodes;
                }
            }
            feasible.push(node);
        }
        match feasible.as_slice() {
            [] => Err(error),
            [only] => Ok(only.name.clone()),
            many => Ok(self.best(&mut state, pod, many, pick)),
        }
    }

    fn best(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &[&NodeInfo],
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> std::sync::Arc<str> {
        let mut totals = vec![0_i64; nodes.len()];
        let mut scores = vec![0_i64; nodes.len()];
        for (plugin, weight) in self.plugins.iter().filter(|(p, _)| p.scores()) {
            plugin.pre_score(state, pod, nodes);
            for (score, node) in scores.iter_mut().zip(nodes) {
                *score = plugin.score(state, pod, node);
            }
            plugin.normalize(state, &mut scores);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += score * weight;
            }
        }
        let top = totals.iter().copied().max().unwrap_or_default();
        let best: Vec<usize> = (0..nodes.len()).filter(|i| totals[*i] == top).collect();
        let chosen = best[pick(best.len()) % best.len()];
        nodes[chosen].name.clone()
    }

    /// Whether any plugin that turned the pod down thinks that `event` could change that.
    pub fn may_help(&self, rejected_by: &[&'static str], event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        rejected_by.is_empty()
            || self
                .plugins
                .iter()
                .filter(|(p, _)| rejected_by.contains(&p.name()))
                .any(|(p, _)| p.may_help(event, pod))
    }
}

/// Scales scores so that the highest becomes [`MAX_SCORE`]; with `reverse`, so that the lowest does.
pub fn normalize_to_max(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or_default();
    for score in scores {
        let scaled = if max == 0 { 0 } else { MAX_SCORE * *score / max };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}
