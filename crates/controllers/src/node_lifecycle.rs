//! Node lifecycle: a node that is silent for too long becomes Unknown, conditions become taints, and when a node is not
//! ready its pods are told to go, a zone's nodes one after another. Watches Nodes, their Leases and Pods (as they are put
//! on a node). Writes the node's conditions and taints, and the pods' Ready condition. Who goes by which taint is
//! [`taint_eviction`](crate::taint_eviction)'s.
//!
//! A heartbeat wakes nobody: it is noted, and each node is looked at when its grace ends.

mod health;
pub mod taints;
#[cfg(test)]
mod tests;
mod zone;

use std::sync::Arc;
use std::time::Duration;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, ObjectKey, Patch, gone_is_done};
use coracle_clock::Clock;
use coracle_informer::{Action, Change, Error, InformerOptions, Lister, WorkQueue};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::Context;
use crate::metrics::node::NodeMetrics;
use crate::pods::{BY_NODE, condition, index_by_node, is_ready, node_name};
use health::Heartbeats;
use taints::{Eviction, cause, evicted_for, ready};
use zone::{Permit, Zones, zone_of};

const NAME: &str = "node-lifecycle-controller";
const ACCOUNT: &str = "node-controller";
const WORKERS: usize = 8;
const LEASES: &str = "kube-node-lease";

/// Labels of which old clients know another name.
const OLD_NAMES: [(&str, &str); 2] = [
    ("kubernetes.io/os", "beta.kubernetes.io/os"),
    ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Node(Arc<str>),
    /// A pod that was put on a node.
    Pod(ObjectKey<Pod>),
}

struct Lifecycle {
    client: Client,
    events: EventRecorder,
    clock: Clock,
    nodes: Lister<Node>,
    pods: Lister<Pod>,
    heartbeats: Arc<Heartbeats>,
    zones: Mutex<Zones>,
    queue: WorkQueue<Key>,
    metrics: NodeMetrics,
}

pub async fn run(cx: Context) {
    let nodes = cx.informers.informer::<Node>();
    let pods = cx.informers.informer::<Pod>();
    let leases = cx.informers.informer_of::<Lease>(InformerOptions {
        namespace: LEASES.into(),
        ..InformerOptions::default()
    });
    index_by_node(&pods);
    let heartbeats = Arc::new(Heartbeats::new(cx.clock));
    let controller = cx.controller::<Key>(NAME, WORKERS);
    let context = Lifecycle {
        client: cx.client_of(ACCOUNT),
        events: cx.recorder(ACCOUNT),
        clock: cx.clock,
        nodes: nodes.lister(),
        pods: pods.lister(),
        heartbeats: heartbeats.clone(),
        zones: Mutex::default(),
        queue: controller.queue(),
        metrics: cx.metrics.nodes.clone(),
    };
    let of_lease = heartbeats.clone();
    let events = context.events.clone();
    controller
        .watches_changes(&nodes, move |change| look(change, &heartbeats, &events))
        .watches_changes(&pods, |change| {
            let pod = change.object();
            let on = |p: &Pod| !node_name(p).is_empty();
            let new = !change.is_deletion() && on(pod) && !change.old().is_some_and(|old| on(old));
            new.then(|| Key::Pod(ObjectKey::of(&**pod)))
        })
        .watches_changes(&leases, move |change: &Change<Lease>| {
            let renewed = |l: &Lease| l.spec.as_ref().and_then(|s| s.renew_time.clone());
            let lease = change.object();
            if !change.is_deletion() && change.old().is_none_or(|old| renewed(old) != renewed(lease)) {
                of_lease.heard_of(lease.metadata.name.as_deref().unwrap_or_default());
            }
            None
        })
        .run(
            context,
            |this, key| async move {
                match key {
                    Key::Node(name) => {
                        let started = this.clock.instant();
                        let done = this.reconcile(&name).await;
                        this.metrics
                            .updated(this.clock.instant().saturating_duration_since(started));
                        done
                    }
                    Key::Pod(key) => this.assigned(&key).await,
                }
            },
            cx.shutdown.clone(),
        )
        .await;
}

/// Notes a sign of life, and says whether more has changed than that.
fn look(change: &Change<Node>, heartbeats: &Heartbeats, events: &EventRecorder) -> Option<Key> {
    let node = change.object();
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let tell = |reason: &str, message: String| events.event(&**node, EventType::Normal, reason, message);
    let heartbeat = |n: &Node| ready(n).and_then(|c| c.last_heartbeat_time.clone());
    match change {
        Change::Added(_) => {
            tell("RegisteredNode", format!("Registered Node {name} in Controller"));
            if ready(node).is_some() {
                heartbeats.heard_of(name);
            }
        }
        Change::Deleted { .. } => {
            heartbeats.forget(name);
            tell("RemovingNode", format!("Removing Node {name} from Controller"));
        }
        Change::Updated { old, new } => {
            if heartbeat(old) != heartbeat(new) {
                heartbeats.heard_of(name);
            }
            let states = |n: &Node| -> Vec<(String, String)> {
                taints::conditions(n)
                    .map(|c| (c.type_.clone(), c.status.clone()))
                    .collect()
            };
            if old.spec == new.spec && old.metadata.labels == new.metadata.labels && states(old) == states(new) {
                return None;
            }
        }
    }
    Some(Key::Node(name.into()))
}

impl Lifecycle {
    async fn reconcile(&self, name: &Arc<str>) -> Result<Action, Error> {
        let Some(node) = self.nodes.find("", name) else {
            let (was, news) = {
                let mut zones = self.zones.lock();
                (zones.of(name), zones.remove(name))
            };
            self.measure(was.iter());
            self.spread(news);
            return Ok(Action::Done);
        };
        let left = self.heartbeats.left(&node);
        let silent = left.is_zero();
        if silent && let Some(conditions) = health::unknown(&node, self.clock.now()) {
            // The change comes back with this key; taints and pods follow then.
            self.become_unknown(&node, conditions).await?;
            return Ok(Action::Done);
        }
        self.name_labels(&node).await?;
        let Some(state) = ready(&node).map(|c| c.status.clone()) else {
            self.taint(&node, Eviction::Wait).await?;
            return Ok(Action::After(left));
        };
        let (was, news) = {
            let mut zones = self.zones.lock();
            (zones.of(name), zones.observe(&node, state == "True"))
        };
        self.measure(was.iter().chain([&zone_of(&node)]));
        self.spread(news);
        let (eviction, wait) = self.eviction(&node, &state);
        if let Err(error) = self.taint(&node, eviction).await {
            if evicted_for(&node).is_none() && matches!(eviction, Eviction::Because(_)) {
                self.zones.lock().give_back(&zone_of(&node));
            }
            return Err(error);
        }
        if evicted_for(&node).is_none() && matches!(eviction, Eviction::Because(_)) {
            self.metrics.evicted(&zone_of(&node));
        }
        if state == "Unknown" {
            // It will not say so itself.
            for pod in self.pods.by_index(BY_NODE, name) {
                self.mark_not_ready(&pod).await?;
            }
        }
        let next = match (silent, wait) {
            (true, None) => return Ok(Action::Done),
            (true, Some(wait)) => wait,
            (false, wait) => wait.map_or(left, |w| w.min(left)),
        };
        Ok(Action::After(next))
    }

    /// Whether the node's pods go, and when to ask again if they have to wait.
    fn eviction(&self, node: &Node, state: &str) -> (Eviction, Option<Duration>) {
        let Some(cause) = cause(state) else {
            return (Eviction::Clear, None);
        };
        let mut zones = self.zones.lock();
        if zones.all_disrupted() {
            return (Eviction::Clear, None);
        }
        // One that is being emptied already may change its reason at once.
        if evicted_for(node).is_some() {
            return (Eviction::Because(cause), None);
        }
        match zones.permit(&zone_of(node), self.clock.instant()) {
            Permit::Granted => (Eviction::Because(cause), None),
            Permit::After(wait) => (Eviction::Wait, Some(wait)),
            Permit::Never => (Eviction::Wait, None),
        }
    }

    /// Tells how these zones are.
    fn measure<'z>(&self, zones: impl Iterator<Item = &'z String>) {
        for zone in zones {
            let (ready, not_ready) = self.zones.lock().sizes(zone);
            self.metrics.zone(zone, ready, not_ready);
        }
    }

    /// Has every node looked at again when the rates have changed.
    fn spread(&self, news: zone::News) {
        if news.over {
            self.heartbeats.reset();
        }
        if news.look_again {
            for node in self.nodes.list() {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                self.queue.add(Key::Node(name.into()));
            }
        }
    }

    async fn become_unknown(&self, node: &Node, conditions: Vec<NodeCondition>) -> Result<(), Error> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let was_ready = ready(node).is_some_and(|c| c.status == "True");
        let mut changed = node.clone();
        changed.status.get_or_insert_default().conditions = Some(conditions);
        let written = self.client.all::<Node>().update_status(&changed).await;
        if gone_is_done(written)?.is_none() {
            return Ok(());
        }
        tracing::info!(controller = NAME, node = name, "a node is silent");
        if was_ready {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.events.event(node, EventType::Normal, "NodeNotReady", message);
        }
        Ok(())
    }

    async fn taint(&self, node: &Node, eviction: Eviction) -> Result<(), Error> {
        let Some(taints) = taints::plan(node, eviction, self.clock.now()) else {
            return Ok(());
        };
        let patch = json!({
            "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints},
        });
        self.patch(node, patch).await
    }

    async fn name_labels(&self, node: &Node) -> Result<(), Error> {
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let missing: Map<String, Value> = OLD_NAMES
            .iter()
            .filter_map(|(new, old)| {
                let value = labels.get(*new)?;
                (labels.get(*old) != Some(value)).then(|| ((*old).to_owned(), json!(value)))
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.patch(node, json!({"metadata": {"labels": missing}})).await
    }

    async fn patch(&self, node: &Node, patch: Value) -> Result<(), Error> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        gone_is_done(self.client.all::<Node>().patch(name, Patch::Merge(patch)).await)?;
        Ok(())
    }

    /// A pod that was put on a node which is not ready is not ready either.
    async fn assigned(&self, key: &ObjectKey<Pod>) -> Result<Action, Error> {
        if let Some(pod) = self.pods.get(key)
            && let Some(node) = self.nodes.find("", node_name(&pod))
            && ready(&node).is_some_and(|c| c.status != "True")
        {
            self.mark_not_ready(&pod).await?;
        }
        Ok(Action::Done)
    }

    async fn mark_not_ready(&self, pod: &Pod) -> Result<(), Error> {
        if !is_ready(pod) {
            return Ok(());
        }
        let Some(mut ready) = condition(pod, "Ready").cloned() else {
            return Ok(());
        };
        ready.status = "False".into();
        ready.last_transition_time = Some(Time(self.clock.now()));
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [ready]}});
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let pods = self.client.namespaced::<Pod>(namespace);
        let patched = pods.status().patch(name, Patch::Strategic(patch)).await;
        if gone_is_done(patched)?.is_none() {
            return Ok(());
        }
        self.events
            .event(pod, EventType::Warning, "NodeNotReady", "Node is not ready");
        Ok(())
    }
}
