//! Taint eviction: pods leave a node with NoExecute taints, at once or after the time that they tolerate. Watches Nodes
//! (by their evicting taints) and Pods (by node and tolerations). Deletes Pods.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, DeleteOptions, ObjectKey, Patch, gone_is_done};
use coracle_clock::{Clock, Instant};
use coracle_informer::{Action, Change, Error, Lister};
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use serde_json::json;

use crate::Context;
use crate::metrics::node::TaintMetrics;
use crate::pods::{BY_NODE, condition, index_by_node, is_finished, node_name};
use plan::{Stay, evicting, stay};

const NAME: &str = "taint-eviction-controller";
const ACCOUNT: &str = "node-controller";
const WORKERS: usize = 8;
const REASON: &str = "TaintManagerEviction";

struct Evictions {
    client: Client,
    events: EventRecorder,
    clock: Clock,
    pods: Lister<Pod>,
    nodes: Lister<Node>,
    /// Pods whose time runs, by uid, and since when.
    running: Mutex<HashMap<String, Instant>>,
    metrics: TaintMetrics,
}

pub async fn run(cx: Context) {
    let pods = cx.informers.informer::<Pod>();
    let nodes = cx.informers.informer::<Node>();
    index_by_node(&pods);
    let client = cx.client_of(ACCOUNT);
    let context = Evictions {
        client: client.clone(),
        events: EventRecorder::start(&client, NAME, None, cx.clock, cx.shutdown.clone()),
        clock: cx.clock,
        pods: pods.lister(),
        nodes: nodes.lister(),
        running: Mutex::default(),
        metrics: cx.metrics.evictions.clone(),
    };
    let of_node = pods.lister();
    cx.controller(NAME, WORKERS)
        .watches_changes(&pods, |change: &Change<Pod>| {
            let facts = |p: &Pod| (node_name(p).to_owned(), tolerations(p).to_vec());
            let new = change.object();
            // An end is of interest too: what is known of the pod is forgotten.
            let same = change.old().is_some_and(|old| facts(old) == facts(new));
            (!same).then(|| ObjectKey::of(&**new))
        })
        .watches_changes(&nodes, move |change: &Change<Node>| {
            let node = change.object();
            if change.old().is_some_and(|old| evicting(old) == evicting(node)) {
                return Vec::new();
            }
            if change.old().is_none() && evicting(node).is_empty() {
                return Vec::new();
            }
            let pods = of_node.by_index(BY_NODE, node.metadata.name.as_deref().unwrap_or_default());
            pods.iter().map(|p| ObjectKey::of(&**p)).collect()
        })
        .run(
            context,
            |this, key| async move { this.reconcile(&key).await },
            cx.shutdown.clone(),
        )
        .await;
}

fn tolerations(pod: &Pod) -> &[Toleration] {
    let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref());
    tolerations.unwrap_or_default()
}

impl Evictions {
    async fn reconcile(&self, key: &ObjectKey<Pod>) -> Result<Action, Error> {
        let Some(pod) = self.pods.get(key) else {
            self.forget_the_gone();
            return Ok(Action::Done);
        };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let node = self.nodes.find("", node_name(&pod));
        let stay = match &node {
            _ if pod.metadata.deletion_timestamp.is_some() || is_finished(&pod) => {
                self.running.lock().remove(&uid);
                return Ok(Action::Done);
            }
            None => Stay::Free,
            Some(node) => stay(&evicting(node), tolerations(&pod)),
        };
        match stay {
            Stay::Free | Stay::Forever => {
                if self.running.lock().remove(&uid).is_some() {
                    self.tell(&pod, "Cancelling deletion of Pod");
                }
                Ok(Action::Done)
            }
            Stay::No => {
                self.running.lock().remove(&uid);
                self.evict(&pod).await
            }
            Stay::For(time) => {
                let now = self.clock.instant();
                let since = *self.running.lock().entry(uid.clone()).or_insert(now);
                let left = time.saturating_sub(now.saturating_duration_since(since));
                if !left.is_zero() {
                    return Ok(Action::After(left));
                }
                let action = self.evict(&pod).await?;
                self.running.lock().remove(&uid);
                Ok(action)
            }
        }
    }

    /// Takes out the times of pods that are no more.
    fn forget_the_gone(&self) {
        let mut running = self.running.lock();
        if running.is_empty() {
            return;
        }
        let nodes = self.nodes.list();
        let tainted = nodes.iter().filter(|n| !evicting(n).is_empty());
        let names = tainted.filter_map(|n| n.metadata.name.as_deref());
        let living: std::collections::HashSet<String> = names
            .flat_map(|n| self.pods.by_index(BY_NODE, n))
            .filter_map(|p| p.metadata.uid.clone())
            .collect();
        running.retain(|uid, _| living.contains(uid));
    }

    fn tell(&self, pod: &Pod, what: &str) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let message = format!("{what} {namespace}/{name}");
        self.events.event(pod, EventType::Normal, REASON, message);
    }

    /// Says on the pod why it goes, then deletes it.
    async fn evict(&self, pod: &Pod) -> Result<Action, Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let pods = self.client.namespaced::<Pod>(namespace);
        let started = self.clock.instant();
        self.tell(pod, "Marking for deletion Pod");
        if condition(pod, "DisruptionTarget").is_none_or(|c| c.status != "True") {
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByTaintManager",
                "message": "Taint manager: deleting due to NoExecute taint",
                "lastTransitionTime": Time(self.clock.now()),
                "observedGeneration": pod.metadata.generation,
            }]}});
            let told = pods.status().patch(name, Patch::Strategic(patch)).await;
            if gone_is_done(told)?.is_none() {
                return Ok(Action::Done);
            }
        }
        let options = DeleteOptions {
            uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        if gone_is_done(pods.delete(name, &options).await)?.is_some() {
            let took = self.clock.instant().saturating_duration_since(started);
            self.metrics.deleted(took);
        }
        Ok(Action::Done)
    }
}
