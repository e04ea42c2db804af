//! What one look at a DaemonSet, the nodes and its pods leads to. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::event::EventType;
use coracle_clock::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};

use super::pod::{Fit, fit, is_updated, target};
use super::rollout;
use crate::pods::{Availability, availability, is_finished, is_ready, node_name, phase};

/// How many pods one reconcile creates, and how many it deletes, at most.
const BURST: usize = 250;

/// What is observed.
pub struct Observed<'a> {
    pub set: &'a DaemonSet,
    pub nodes: &'a [Arc<Node>],
    /// Those that the set controls.
    pub pods: &'a [Arc<Pod>],
    /// Of the newest revision.
    pub hash: &'a str,
    /// False while the cache is behind: then only the status is planned.
    pub may_act: bool,
    /// How much longer a failed pod on a node has to stay.
    pub wait: &'a dyn Fn(&str) -> Option<Duration>,
    pub now: Timestamp,
}

#[derive(Debug, Default)]
pub struct Plan {
    /// The nodes that get a pod.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    /// The nodes whose failed pods are deleted: their back-off grows.
    pub failed: Vec<String>,
    pub events: Vec<(EventType, &'static str, String)>,
    pub status: DaemonSetStatus,
    pub check_again: Option<Duration>,
}

/// The set's pods by the node they are on or meant for, those first that are bound and older.
pub(super) type ByNode = BTreeMap<String, Vec<Arc<Pod>>>;

fn by_node(pods: &[Arc<Pod>]) -> ByNode {
    let mut all = ByNode::new();
    // One that has ended and is being deleted is no longer the set's concern.
    let counts = |p: &&Arc<Pod>| p.metadata.deletion_timestamp.is_none() || !is_finished(p);
    for pod in pods.iter().filter(counts) {
        if let Some(node) = target(pod) {
            all.entry(node.to_owned()).or_default().push(pod.clone());
        }
    }
    for pods in all.values_mut() {
        pods.sort_by_key(|p| {
            let created = p.metadata.creation_timestamp.clone();
            (node_name(p).is_empty(), created, p.metadata.name.clone())
        });
    }
    all
}

pub(super) fn living(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

/// Everything that is asked of a pod and a node more than once.
pub(super) struct Look<'a> {
    pub observed: &'a Observed<'a>,
    pub pods: ByNode,
    /// The nodes there are, by name.
    pub fits: BTreeMap<&'a str, Fit>,
    pub surge: usize,
    pub unavailable: usize,
    min_ready: i32,
}

impl<'a> Look<'a> {
    fn new(observed: &'a Observed<'a>) -> Self {
        let name = |n: &'a Arc<Node>| n.metadata.name.as_deref().unwrap_or_default();
        let fits: BTreeMap<&str, Fit> = observed.nodes.iter().map(|n| (name(n), fit(observed.set, n))).collect();
        let desired = fits.values().filter(|f| f.run).count();
        let (surge, unavailable) = rollout::bounds(observed.set, desired);
        Self {
            pods: by_node(observed.pods),
            fits,
            surge,
            unavailable,
            min_ready: observed.set.spec.min_ready_seconds.unwrap_or(0),
            observed,
        }
    }

    pub fn availability(&self, pod: &Pod) -> Availability {
        availability(pod, self.min_ready, self.observed.now)
    }

    pub fn is_available(&self, pod: &Pod) -> bool {
        self.availability(pod) == Availability::Available
    }

    pub fn desired(&self) -> usize {
        self.fits.values().filter(|f| f.run).count()
    }
}

pub fn plan(observed: &Observed<'_>) -> Plan {
    let look = Look::new(observed);
    let mut plan = Plan::default();
    if observed.may_act {
        for (node, fit) in &look.fits {
            manage(&look, node, *fit, &mut plan);
        }
        // A pod for a node that is no more is never scheduled, so that nobody else would take it away.
        for (node, pods) in &look.pods {
            if !look.fits.contains_key(node.as_str()) {
                let unbound = pods.iter().filter(|p| node_name(p).is_empty() && living(p));
                plan.delete.extend(unbound.cloned());
            }
        }
        if plan.create.is_empty() && plan.delete.is_empty() && rollout::is_rolling(observed.set) {
            rollout::roll(&look, &mut plan);
        }
        plan.create.truncate(BURST);
        plan.delete.truncate(BURST);
    }
    plan.status = status(&look);
    let next = observed
        .pods
        .iter()
        .filter(|p| living(p))
        .filter_map(|p| match look.availability(p) {
            Availability::At(at) => Duration::try_from(at.duration_since(observed.now)).ok(),
            _ => None,
        });
    plan.check_again = next.chain(plan.check_again).min();
    plan
}

/// What one node needs, whatever is rolled out.
fn manage(look: &Look<'_>, node: &str, fit: Fit, plan: &mut Plan) {
    let pods = look.pods.get(node).map(Vec::as_slice).unwrap_or_default();
    if !fit.stay {
        plan.delete.extend(pods.iter().filter(|p| living(p)).cloned());
        return;
    }
    if pods.is_empty() {
        if fit.run {
            plan.create.push(node.to_owned());
        }
        return;
    }
    let mut running = Vec::new();
    for pod in pods.iter().filter(|p| living(p)) {
        match phase(pod) {
            "Failed" => replace_failed(look, node, pod, plan),
            "Succeeded" => {
                let message = format!(
                    "Found succeeded daemon pod {} on node {node}, will try to delete it",
                    full_name(pod)
                );
                plan.events.push((EventType::Normal, "SucceededDaemonPod", message));
                plan.delete.push(pod.clone());
            }
            _ => running.push(pod),
        }
    }
    if look.surge == 0 {
        // The oldest stays.
        plan.delete.extend(running.into_iter().skip(1).cloned());
        return;
    }
    if running.len() <= 1 {
        // With surge the next one does not wait for the last one's end.
        if running.is_empty() && fit.run {
            plan.create.push(node.to_owned());
        }
        return;
    }
    let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|p| is_updated(p, look.observed.hash));
    let superfluous = new.iter().skip(1).chain(old.iter().skip(1));
    plan.delete.extend(superfluous.map(|p| Arc::clone(p)));
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (!is_ready(old) || look.is_available(new))
    {
        plan.delete.push(Arc::clone(old));
    }
}

fn full_name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    format!("{}/{}", text(&meta.namespace), text(&meta.name))
}

fn replace_failed(look: &Look<'_>, node: &str, pod: &Arc<Pod>, plan: &mut Plan) {
    if let Some(wait) = (look.observed.wait)(node) {
        plan.check_again = Some(plan.check_again.map_or(wait, |c| c.min(wait)));
        return;
    }
    let message = format!(
        "Found failed daemon pod {} on node {node}, will try to kill it",
        full_name(pod)
    );
    plan.events.push((EventType::Warning, "FailedDaemonPod", message));
    plan.failed.push(node.to_owned());
    plan.delete.push(pod.clone());
}

fn status(look: &Look<'_>) -> DaemonSetStatus {
    let observed = look.observed;
    let (mut current, mut misscheduled, mut ready, mut updated, mut available) = (0, 0, 0, 0, 0);
    for (node, fit) in &look.fits {
        let first = look.pods.get(*node).and_then(|p| p.first());
        match (fit.run, first) {
            (true, Some(pod)) => {
                current += 1;
                ready += i32::from(is_ready(pod));
                available += i32::from(look.is_available(pod));
                updated += i32::from(is_updated(pod, observed.hash));
            }
            (false, Some(_)) => misscheduled += 1,
            (_, None) => {}
        }
    }
    let old = observed.set.status.clone().unwrap_or_default();
    let desired = i32::try_from(look.desired()).unwrap_or(i32::MAX);
    let nonzero = |n: i32| (n != 0).then_some(n);
    DaemonSetStatus {
        current_number_scheduled: current,
        desired_number_scheduled: desired,
        number_misscheduled: misscheduled,
        number_ready: ready,
        updated_number_scheduled: nonzero(updated),
        number_available: nonzero(available),
        number_unavailable: nonzero(desired - available),
        // The spec has not been acted upon while the cache was behind.
        observed_generation: match observed.may_act {
            true => observed.set.metadata.generation,
            false => old.observed_generation,
        },
        collision_count: old.collision_count,
        conditions: old.conditions,
    }
}
