//! The plugins of one scheduler name, and how each extension point runs through them.

mod reuse;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::event::ClusterEvent;
use crate::framework::{
    CycleState, Failed, MAX_SCORE, Permit, Plugin, Point, PostFilter, PreFilter, PreScore, Rejection, Severity,
};
use crate::listers::Needs;
use crate::metrics::{Metrics, PointTimer};
use crate::node_info::NodeInfo;
use crate::nominator::Nominations;
use crate::queue::Gate;
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

/// Which plugins run at one extension point, in order, by their number in the profile.
type Sequence = Vec<usize>;

/// No pod waits longer for a permit, whatever a plugin says.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// See the [module](self).
pub struct Profile {
    pub scheduler_name: String,
    /// How many percent of the nodes to find fitting before scoring them; 0 decides by the size of the cluster. `None`
    /// leaves it to the scheduler.
    pub percentage_of_nodes_to_score: Option<u32>,
    plugins: Vec<Arc<dyn Plugin>>,
    /// By [`Point`].
    sequences: Vec<Sequence>,
    /// Plugins that take part in finding a node.
    searching: Vec<usize>,
    /// Of the plugins, by number; those that do not score have none.
    weights: Vec<i64>,
    pub(crate) timer: PointTimer,
    pub(crate) metrics: Metrics,
}

/// Which plugins run where.
#[derive(Default)]
pub struct ProfilePlugins {
    plugins: Vec<(Arc<dyn Plugin>, i64)>,
    sequences: Vec<(Point, &'static str)>,
}

impl ProfilePlugins {
    /// Adds a plugin, with its weight in scoring, to no extension point yet.
    pub fn plugin(&mut self, plugin: Arc<dyn Plugin>, weight: i64) {
        self.plugins.push((plugin, weight));
    }

    /// Runs the plugin of this name at `point`, after those already there.
    pub fn run_at(&mut self, point: Point, name: &'static str) {
        self.sequences.push((point, name));
    }
}

/// What PreFilter came to.
pub(crate) enum Candidates {
    All,
    Only {
        names: BTreeSet<Arc<str>>,
        plugins: Vec<&'static str>,
    },
}

impl Profile {
    /// Each plugin at all of its extension points.
    pub fn new(scheduler_name: &str, plugins: Vec<(Arc<dyn Plugin>, i64)>) -> Self {
        let mut set = ProfilePlugins::default();
        for (plugin, weight) in plugins {
            for point in plugin.points() {
                set.run_at(*point, plugin.name());
            }
            set.plugin(plugin, weight);
        }
        Self::with(scheduler_name, set, None)
    }

    pub fn with(scheduler_name: &str, set: ProfilePlugins, percentage: Option<u32>) -> Self {
        let metrics = Metrics::default();
        let mut sequences = vec![Sequence::new(); Point::ALL.len()];
        for (point, name) in &set.sequences {
            let number = set.plugins.iter().position(|(p, _)| p.name() == *name);
            let sequence = &mut sequences[*point as usize];
            if let Some(number) = number.filter(|n| !sequence.contains(n)) {
                sequence.push(number);
            }
        }
        Self {
            searching: reuse::searching(&sequences),
            scheduler_name: scheduler_name.to_owned(),
            percentage_of_nodes_to_score: percentage,
            weights: set.plugins.iter().map(|(_, weight)| *weight).collect(),
            plugins: set.plugins.into_iter().map(|(plugin, _)| plugin).collect(),
            sequences,
            timer: PointTimer::new(&metrics, scheduler_name),
            metrics,
        }
    }

    /// The same profile, counted by these instead of metrics of its own.
    pub fn counted_by(self, metrics: &Metrics) -> Self {
        Self {
            timer: PointTimer::new(metrics, &self.scheduler_name),
            metrics: metrics.clone(),
            ..self
        }
    }

    fn at(&self, point: Point) -> impl DoubleEndedIterator<Item = (usize, &Arc<dyn Plugin>)> {
        let sequence = &self.sequences[point as usize];
        sequence.iter().map(|number| (*number, &self.plugins[*number]))
    }

    /// The plugins that run at an extension point, in order, with the weight of each.
    pub fn plugins_at(&self, point: Point) -> Vec<(&'static str, i64)> {
        self.at(point).map(|(i, p)| (p.name(), self.weights[i])).collect()
    }

    /// What must be in memory before a cycle for this pod.
    pub fn needs(&self, pod: &PodInfo) -> Needs {
        self.plugins
            .iter()
            .fold(Needs::NOTHING, |needs, p| needs | p.needs(pod))
    }

    /// Labels to group nodes by for every pod of this profile.
    pub fn topology_keys(&self) -> Vec<Arc<str>> {
        self.plugins.iter().flat_map(|p| p.topology_keys()).collect()
    }

    /// The first plugin that keeps the pod out of the queue, if any does.
    pub fn gate(&self, pod: &Pod) -> Option<Gate> {
        let mut plugins = self.at(Point::PreEnqueue);
        let (_, plugin) = plugins.find(|(_, p)| p.pre_enqueue(pod).is_err())?;
        Some(Gate {
            plugin: plugin.name(),
            by_pod_alone: plugin.keeps_out_by_pod_alone(),
        })
    }

    pub fn precedence(&self, pod: &PodInfo) -> i64 {
        self.at(Point::QueueSort).next().map_or(0, |(_, p)| p.precedence(pod))
    }

    pub(crate) fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<Candidates, (&'static str, Rejection)> {
        let mut only: Option<BTreeSet<Arc<str>>> = None;
        let mut narrowing = Vec::new();
        state.skip_filter = 0;
        for (number, plugin) in self.at(Point::PreFilter) {
            match plugin.pre_filter(state, pod, snapshot) {
                Ok(PreFilter::All) => {}
                Ok(PreFilter::Skip) => state.skip_filter |= 1 << number,
                Ok(PreFilter::Only(names)) => {
                    narrowing.push(plugin.name());
                    only = Some(match only {
                        None => names,
                        Some(before) => &before & &names,
                    });
                    if only.as_ref().is_some_and(BTreeSet::is_empty) {
                        let message = match narrowing.as_slice() {
                            [one] => format!("node(s) didn't satisfy plugin {one}"),
                            many => format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", many.join(" ")),
                        };
                        return Err((plugin.name(), Rejection::unresolvable_text(message)));
                    }
                }
                Err(rejection) => return Err((plugin.name(), rejection)),
            }
        }
        Ok(match only {
            None => Candidates::All,
            Some(names) => Candidates::Only {
                names,
                plugins: narrowing,
            },
        })
    }

    /// Filters one node as it is.
    #[inline]
    pub fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), (&'static str, Rejection)> {
        self.filter_by(&self.sequences[Point::Filter as usize], state, pod, node)
    }

    /// The same by some of the plugins only.
    #[inline]
    pub(crate) fn filter_by(
        &self,
        plugins: &[usize],
        state: &CycleState,
        pod: &PodInfo,
        node: &NodeInfo,
    ) -> Result<(), (&'static str, Rejection)> {
        for &number in plugins {
            let plugin = &self.plugins[number];
            if state.skip_filter & (1 << number) == 0
                && let Err(rejection) = plugin.filter(state, pod, node)
            {
                return Err((plugin.name(), rejection));
            }
        }
        Ok(())
    }

    /// Filters one node as it is and as it would be with the pods of at least this one's priority that are nominated there:
    /// the pod must fit whether they come or not.
    pub fn filter_with_nominated(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        node: &NodeInfo,
        nominations: &Nominations,
    ) -> Result<(), (&'static str, Rejection)> {
        if !nominations.is_empty() {
            let expected = nominations.on(&node.name).iter();
            let expected: Vec<&PodInfo> = expected
                .filter(|p| p.priority() >= pod.priority() && p.uid() != pod.uid())
                .collect();
            if !expected.is_empty() {
                let mut full = node.clone();
                for other in &expected {
                    full.add_pod((*other).clone());
                    self.add_pod(state, pod, other, &full);
                }
                let verdict = self.filter(state, pod, &full);
                for other in expected.iter().rev() {
                    full.remove_pod(other.uid());
                    self.remove_pod(state, pod, other, &full);
                }
                verdict?;
            }
        }
        self.filter(state, pod, node)
    }

    /// PreFilter's state as if `other` were on the node too.
    pub fn add_pod(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo) {
        for (number, plugin) in self.at(Point::PreFilter) {
            if state.skip_filter & (1 << number) == 0 {
                plugin.add_pod(state, pod, other, node);
            }
        }
    }

    /// PreFilter's state as if `other` were not on the node.
    pub fn remove_pod(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo) {
        for (number, plugin) in self.at(Point::PreFilter) {
            if state.skip_filter & (1 << number) == 0 {
                plugin.remove_pod(state, pod, other, node);
            }
        }
    }

    /// The first plugin that finds something decides; all may say something.
    pub(crate) fn post_filter(
        &self,
        state: &mut CycleState,
        failed: &Failed<'_>,
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> PostFilter {
        let mut messages = Vec::new();
        let mut nominate = None;
        for (_, plugin) in self.at(Point::PostFilter) {
            let Some(mut found) = plugin.post_filter(state, failed, pick) else {
                continue;
            };
            if found.wants != Needs::NOTHING {
                return found;
            }
            if !found.victims.is_empty() || found.nominate.as_ref().is_some_and(|n| !n.is_empty()) {
                messages.push(std::mem::take(&mut found.message));
                messages.retain(|m| !m.is_empty());
                found.message = messages.join(", ");
                return found;
            }
            nominate = nominate.or(found.nominate);
            messages.push(found.message);
        }
        messages.retain(|m| !m.is_empty());
        PostFilter {
            nominate,
            message: messages.join(", "),
            ..PostFilter::default()
        }
    }

    pub(crate) fn has_scores(&self) -> bool {
        !self.sequences[Point::Score as usize].is_empty()
    }

    pub(crate) fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: &[&NodeInfo], all: &Snapshot) {
        state.skip_score = 0;
        for (number, plugin) in self.at(Point::PreScore) {
            if plugin.pre_score(state, pod, nodes, all) == PreScore::Skip {
                state.skip_score |= 1 << number;
            }
        }
    }

    /// What one plugin gives a node.
    pub(crate) fn score_by(&self, plugin: usize, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        self.plugins[plugin].score(state, pod, node)
    }

    /// Normalizes what one plugin gives the nodes, and adds it to their totals by the plugin's weight.
    pub(crate) fn add_up(
        &self,
        plugin: usize,
        state: &CycleState,
        nodes: &[&NodeInfo],
        totals: &mut [i64],
        scores: &mut [i64],
    ) {
        let (weight, plugin) = (self.weights[plugin], &self.plugins[plugin]);
        plugin.normalize(state, nodes, scores);
        for (total, score) in totals.iter_mut().zip(&*scores) {
            debug_assert!((0..=MAX_SCORE).contains(score), "{} gives {score}", plugin.name());
            *total += score * weight;
        }
    }

    /// All plugins take what they need, or none does.
    pub(crate) fn reserve(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        node: &str,
    ) -> Result<(), (&'static str, Rejection)> {
        for (_, plugin) in self.at(Point::Reserve) {
            if let Err(rejection) = plugin.reserve(state, pod, node) {
                self.unreserve(state, pod, node);
                return Err((plugin.name(), rejection));
            }
        }
        Ok(())
    }

    /// In reverse order.
    pub(crate) fn unreserve(&self, state: &CycleState, pod: &PodInfo, node: &str) {
        for (_, plugin) in self.at(Point::Reserve).rev() {
            plugin.unreserve(state, pod, node);
        }
    }

    /// Who has to allow the pod yet, and how long each gives it.
    pub(crate) fn permit(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        node: &str,
    ) -> Result<Vec<(&'static str, Duration)>, (&'static str, Rejection)> {
        let mut waits = Vec::new();
        for (_, plugin) in self.at(Point::Permit) {
            match plugin.permit(state, pod, node) {
                Ok(Permit::Allow) => {}
                Ok(Permit::Wait(limit)) => waits.push((plugin.name(), limit.min(LONGEST_WAIT))),
                Err(rejection) => return Err((plugin.name(), rejection)),
            }
        }
        Ok(waits)
    }

    /// Those that have something to do before the pod is bound.
    fn preparing<'a>(&'a self, binding: &'a crate::framework::Binding<'_>) -> impl Iterator<Item = &'a dyn Plugin> {
        let plugins = self.at(Point::PreBind).map(|(_, plugin)| &**plugin);
        plugins.filter(|plugin| plugin.pre_bind_pre_flight(binding))
    }

    /// Whether binding the pod takes more than to say so.
    pub(crate) fn prepares(&self, binding: &crate::framework::Binding<'_>) -> bool {
        self.preparing(binding).next().is_some()
    }

    pub(crate) async fn pre_bind(
        &self,
        binding: &crate::framework::Binding<'_>,
    ) -> Result<(), (&'static str, Rejection)> {
        for plugin in self.preparing(binding) {
            plugin.pre_bind(binding).await.map_err(|r| (plugin.name(), r))?;
        }
        Ok(())
    }

    /// By the first plugin that takes it on; `None` if none does.
    pub(crate) async fn bind(
        &self,
        binding: &crate::framework::Binding<'_>,
    ) -> Option<Result<(), coracle_client::Error>> {
        for (_, plugin) in self.at(Point::Bind) {
            if let Some(bound) = plugin.bind(binding) {
                return Some(bound.await);
            }
        }
        None
    }

    pub(crate) fn post_bind(&self, binding: &crate::framework::Binding<'_>) {
        for (_, plugin) in self.at(Point::PostBind) {
            plugin.post_bind(binding);
        }
    }

    /// Whether any plugin that turned the pod down thinks that `event` could change that.
    pub fn may_help(&self, rejected_by: &[&'static str], event: &ClusterEvent, pod: &PodInfo) -> bool {
        rejected_by.is_empty()
            || matches!(event, ClusterEvent::Retry)
            || self
                .plugins
                .iter()
                .filter(|p| rejected_by.contains(&p.name()))
                .any(|p| p.may_help(event, pod))
    }
}

/// Whether a rejection leaves room for preemption.
pub(crate) fn is_resolvable(rejection: &Rejection) -> bool {
    rejection.severity == Severity::Unschedulable
}

#[cfg(test)]
mod tests;
