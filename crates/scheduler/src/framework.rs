//! The scheduling framework: the extension points that a plugin may take part in.
//!
//! A cycle for one pod: PreFilter, Filter on each node, (PostFilter if none fits), PreScore, Score, NormalizeScore,
//! Reserve, Permit; then, off the loop, PreBindPreFlight, PreBind, Bind, PostBind. PreEnqueue, QueueSort and queueing hints belong to the
//! queue. A [`Profile`](crate::profile::Profile) runs the plugins in order.

mod rejection;
mod state;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::Client;
use coracle_clock::Clock;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;

use crate::diagnosis::FitError;
use crate::event::ClusterEvent;
use crate::listers::Needs;
use crate::node_info::NodeInfo;
use crate::nominator::Nominations;
use crate::profile::Profile;
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

pub use rejection::{Reason, Rejection, Severity};
pub use state::CycleState;

/// The most a plugin may give a node; also what NormalizeScore scales to.
pub const MAX_SCORE: i64 = 100;

/// An extension point, as configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    PreEnqueue,
    QueueSort,
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    Reserve,
    Permit,
    PreBind,
    Bind,
    PostBind,
}

impl Point {
    pub const ALL: [Self; 12] = [
        Self::PreEnqueue,
        Self::QueueSort,
        Self::PreFilter,
        Self::Filter,
        Self::PostFilter,
        Self::PreScore,
        Self::Score,
        Self::Reserve,
        Self::Permit,
        Self::PreBind,
        Self::Bind,
        Self::PostBind,
    ];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreEnqueue => "PreEnqueue",
            Self::QueueSort => "QueueSort",
            Self::PreFilter => "PreFilter",
            Self::Filter => "Filter",
            Self::PostFilter => "PostFilter",
            Self::PreScore => "PreScore",
            Self::Score => "Score",
            Self::Reserve => "Reserve",
            Self::Permit => "Permit",
            Self::PreBind => "PreBind",
            Self::Bind => "Bind",
            Self::PostBind => "PostBind",
        }
    }

    /// The field of `plugins` in a configuration.
    pub fn field(self) -> &'static str {
        match self {
            Self::PreEnqueue => "preEnqueue",
            Self::QueueSort => "queueSort",
            Self::PreFilter => "preFilter",
            Self::Filter => "filter",
            Self::PostFilter => "postFilter",
            Self::PreScore => "preScore",
            Self::Score => "score",
            Self::Reserve => "reserve",
            Self::Permit => "permit",
            Self::PreBind => "preBind",
            Self::Bind => "bind",
            Self::PostBind => "postBind",
        }
    }
}

/// How far what a plugin works out for one pod holds for the next pod of the same [`Shape`](crate::shape::Shape).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reuse {
    /// Not at all: something else than the shape, the nodes and the pods on them goes into it, or it is needed after the
    /// cycle.
    Nothing,
    /// What PreFilter and PreScore put into the state: they find it there again, and [`carry`](Plugin::carry) has told it of
    /// every pod that came or went. It is begun anew when any node changes.
    State,
    /// Besides, Filter and Score of one node ask nothing but the pod's shape, that node and the pods on it: what they said
    /// holds until one of these changes.
    Node,
}

/// What PreFilter found.
#[derive(Debug)]
pub enum PreFilter {
    /// Filter must look at every node.
    All,
    /// Only these nodes can fit.
    Only(BTreeSet<Arc<str>>),
    /// Filter has nothing to say about this pod.
    Skip,
}

/// Whether Score means anything for this pod and these nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreScore {
    Score,
    Skip,
}

/// What PostFilter found.
#[derive(Debug, Default)]
pub struct PostFilter {
    /// What it has to have in memory first; the cycle is then run again.
    pub wants: Needs,
    /// `Some("")` takes a nomination back; `None` leaves it as it is.
    pub nominate: Option<Arc<str>>,
    /// Pods to be evicted from that node.
    pub victims: Vec<PodInfo>,
    /// For the pod's event.
    pub message: String,
}

/// Whether a pod may be bound.
#[derive(Debug)]
pub enum Permit {
    Allow,
    /// Not before someone [allows](crate::waiting::WaitingPods::allow) it in this plugin's name, and not at all after this
    /// long.
    Wait(Duration),
}

/// What PostFilter works on.
pub struct Failed<'a> {
    pub nominations: &'a Nominations,
    pub profile: &'a Profile,
    pub snapshot: &'a Snapshot,
    pub pod: &'a PodInfo,
    pub error: &'a FitError,
    /// Everything that filters this pod is of [`Reuse::Node`], and the state is that of an earlier cycle if there was one.
    pub by_node_alone: bool,
}

/// What the binding of a pod works with.
pub struct Binding<'a> {
    pub client: &'a Client,
    pub clock: Clock,
    pub pod: &'a PodInfo,
    pub node: &'a str,
    pub state: &'a CycleState,
}

/// A plugin takes part in the extension points that it names, and overrides their methods. All up to Permit are
/// synchronous: a cycle runs on what is in memory.
pub trait Plugin: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    fn points(&self) -> &'static [Point];

    /// What must be in memory before a cycle for this pod.
    fn needs(&self, _pod: &PodInfo) -> Needs {
        Needs::NOTHING
    }

    /// What holds for the next pod like this one: a thousand replicas then cost little more than one. A plugin that says
    /// more than is true places pods wrongly.
    fn reuse(&self, _pod: &PodInfo) -> Reuse {
        Reuse::Nothing
    }

    /// Labels that the plugin groups nodes by for pods that do not name them themselves.
    fn topology_keys(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// May the pod enter the active queue at all?
    fn pre_enqueue(&self, _pod: &Pod) -> Result<(), Rejection> {
        Ok(())
    }

    /// PreEnqueue: only a change of the pod itself lets in one that was kept out, so that no event need be
    /// [asked about](Self::may_help).
    fn keeps_out_by_pod_alone(&self) -> bool {
        false
    }

    /// QueueSort: pods with more go first, and of equals the one that has waited longest.
    fn precedence(&self, _pod: &PodInfo) -> i64 {
        0
    }

    /// Computes what Filter will need; a rejection turns the pod down on every node.
    fn pre_filter(
        &self,
        _state: &mut CycleState,
        _pod: &PodInfo,
        _snapshot: &Snapshot,
    ) -> Result<PreFilter, Rejection> {
        Ok(PreFilter::All)
    }

    fn filter(&self, _state: &CycleState, _pod: &PodInfo, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// Brings the state of PreFilter to what it would be with `other` on the node too. Taking it away again brings the
    /// state back to what it was, exactly.
    fn add_pod(&self, _state: &mut CycleState, _pod: &PodInfo, _other: &PodInfo, _node: &NodeInfo) {}

    /// The reverse of [`add_pod`](Self::add_pod).
    fn remove_pod(&self, _state: &mut CycleState, _pod: &PodInfo, _other: &PodInfo, _node: &NodeInfo) {}

    /// Brings the state of PreFilter and of PreScore, from an earlier cycle for a pod like this, up to date: `other` came to
    /// the node (1) or left it (-1). Of the node only what its object says counts.
    fn carry(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        match by > 0 {
            true => self.add_pod(state, pod, other, node),
            false => self.remove_pod(state, pod, other, node),
        }
    }

    /// No node fits: what can be done about it?
    fn post_filter(
        &self,
        _state: &mut CycleState,
        _failed: &Failed<'_>,
        _pick: &mut dyn FnMut(usize) -> usize,
    ) -> Option<PostFilter> {
        None
    }

    /// Computes what Score will need.
    fn pre_score(&self, _state: &mut CycleState, _pod: &PodInfo, _nodes: &[&NodeInfo], _all: &Snapshot) -> PreScore {
        PreScore::Score
    }

    fn score(&self, _state: &CycleState, _pod: &PodInfo, _node: &NodeInfo) -> i64 {
        0
    }

    /// NormalizeScore: brings the scores of all nodes into 0..=[`MAX_SCORE`].
    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeInfo], _scores: &mut [i64]) {}

    /// Takes what the pod will need on its node.
    fn reserve(&self, _state: &mut CycleState, _pod: &PodInfo, _node: &str) -> Result<(), Rejection> {
        Ok(())
    }

    /// Gives it back, as often as asked.
    fn unreserve(&self, _state: &CycleState, _pod: &PodInfo, _node: &str) {}

    fn permit(&self, _state: &CycleState, _pod: &PodInfo, _node: &str) -> Result<Permit, Rejection> {
        Ok(Permit::Allow)
    }

    /// PreBindPreFlight: whether [`pre_bind`](Self::pre_bind) has anything to do for this pod. If so, the pod says in
    /// `status.nominatedNodeName` where it is going to be while that is done.
    fn pre_bind_pre_flight(&self, _binding: &Binding<'_>) -> bool {
        true
    }

    /// What must be done before the pod is bound.
    fn pre_bind<'a>(&'a self, _binding: &'a Binding<'a>) -> BoxFuture<'a, Result<(), Rejection>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Binds the pod, unless it is left to another plugin (`None`).
    fn bind<'a>(&'a self, _binding: &'a Binding<'a>) -> Option<BoxFuture<'a, Result<(), coracle_client::Error>>> {
        None
    }

    fn post_bind(&self, _binding: &Binding<'_>) {}

    /// A queueing hint: could `event` let a pod that this plugin turned down fit now?
    fn may_help(&self, _event: &ClusterEvent, _pod: &PodInfo) -> bool {
        true
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
