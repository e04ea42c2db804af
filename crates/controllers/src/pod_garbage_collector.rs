//! Deletes pods that nobody else will: those of nodes that are gone, terminating ones that no node has to stop or whose
//! node is out of service, and the oldest finished ones when there are too many. Watches Pods and Nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Client, DeleteOptions, ObjectKey, Patch, gone_is_done};
use coracle_clock::{Clock, Instant};
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use serde_json::json;

use crate::Context;
use crate::metrics::node::PodGcMetrics;
use crate::pods::{BY_NODE, index_by_node, is_finished, node_name};

const NAME: &str = "pod-garbage-collector-controller";
const WORKERS: usize = 2;
const FINISHED: &str = "finished";
/// So many finished pods may stay.
const THRESHOLD: usize = 12_500;
/// How long finished pods gather before they are counted.
const BATCH: Duration = Duration::from_secs(20);
/// How long a node has to be missing before its pods go.
const QUARANTINE: Duration = Duration::from_secs(40);

/// What is looked at: one pod, or all finished ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Pod(ObjectKey<Pod>),
    Finished,
}

struct Collector {
    client: Client,
    clock: Clock,
    pods: Lister<Pod>,
    nodes: Lister<Node>,
    stranded: Arc<Stranded>,
    metrics: PodGcMetrics,
}

/// Why a pod goes: upstream's word for it, and what is told of one that has not finished.
struct Cause {
    reason: &'static str,
    disruption: Option<&'static str>,
}

const TERMINATED: Cause = Cause {
    reason: "terminated",
    disruption: None,
};
const UNSCHEDULED: Cause = Cause {
    reason: "unscheduled",
    disruption: None,
};
const ORPHANED: Cause = Cause {
    reason: "orphaned",
    disruption: Some("PodGC: node no longer exists"),
};
const OUT_OF_SERVICE: Cause = Cause {
    reason: "out-of-service",
    disruption: None,
};

/// Pods, by uid, whose node nobody has seen, and since when. Each has its own time: whoever makes pods for a node that
/// does not exist gets a new one only so often.
type Stranded = Mutex<HashMap<String, Instant>>;

pub async fn run(cx: Context) {
    let pods = cx.informers.informer::<Pod>();
    let nodes = cx.informers.informer::<Node>();
    index_by_node(&pods);
    pods.add_index(FINISHED, |pod: &Pod| is_finished(pod).then(String::new));
    let stranded = Arc::new(Stranded::default());
    let context = Collector {
        client: cx.client_of(NAME),
        clock: cx.clock,
        pods: pods.lister(),
        nodes: nodes.lister(),
        stranded: stranded.clone(),
        metrics: cx.metrics.collected_pods.clone(),
    };
    let of_node = pods.lister();
    let controller = cx.controller(NAME, WORKERS);
    let queue = controller.queue();
    controller
        .watches_changes(&pods, move |change| {
            let pod = change.object();
            if change.is_deletion() {
                stranded.lock().remove(pod.metadata.uid.as_deref().unwrap_or_default());
                return None;
            }
            if is_finished(pod) && change.old().is_none_or(|old| !is_finished(old)) {
                queue.add_after(Key::Finished, BATCH);
            }
            // A pod that has a node and lives is looked at when it gets the node; then when the node changes.
            let placed = change.old().is_none_or(|old| node_name(old) != node_name(pod));
            let ends = pod.metadata.deletion_timestamp.is_some();
            (ends || placed && !node_name(pod).is_empty()).then(|| Key::Pod(ObjectKey::of(&**pod)))
        })
        .watches_changes(&nodes, move |change| {
            let node = change.object();
            let gone = change.is_deletion() || is_out_of_service(node);
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let pods = if gone {
                of_node.by_index(BY_NODE, name)
            } else {
                Default::default()
            };
            pods.iter().map(|p| Key::Pod(ObjectKey::of(&**p))).collect::<Vec<_>>()
        })
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

/// Not ready, and said to be out of service by an administrator.
fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions.filter(|c| c.type_ == "Ready").any(|c| c.status == "True");
    !ready && taints.into_iter().any(|t| t.key == "node.kubernetes.io/out-of-service")
}

/// The finished pods beyond the threshold: evicted ones first, which tell least, and then the oldest.
fn surplus(mut finished: Vec<Arc<Pod>>, threshold: usize) -> Vec<Arc<Pod>> {
    let surplus = finished.len().saturating_sub(threshold);
    if surplus > 0 {
        finished.sort_by_key(|p| {
            let meta = &p.metadata;
            let created = meta.creation_timestamp.as_ref().map(|t| t.0);
            (!is_evicted(p), created, meta.name.clone())
        });
    }
    finished.truncate(surplus);
    finished
}

fn is_evicted(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    status.is_some_and(|s| s.phase.as_deref() == Some("Failed") && s.reason.as_deref() == Some("Evicted"))
}

async fn reconcile(cx: Arc<Collector>, key: Key) -> Result<Action, Error> {
    match key {
        Key::Finished => cx.trim().await,
        Key::Pod(key) => cx.look_at(&key).await,
    }
}

impl Collector {
    /// Deletes the finished pods beyond the threshold.
    async fn trim(&self) -> Result<Action, Error> {
        for pod in surplus(self.pods.by_index(FINISHED, ""), THRESHOLD) {
            self.remove(&pod, &TERMINATED).await?;
        }
        Ok(Action::Done)
    }

    async fn look_at(&self, key: &ObjectKey<Pod>) -> Result<Action, Error> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(Action::Done);
        };
        let terminating = pod.metadata.deletion_timestamp.is_some();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let name = node_name(&pod);
        if name.is_empty() {
            if terminating {
                self.remove(&pod, &UNSCHEDULED).await?;
            }
            return Ok(Action::Done);
        }
        if let Some(node) = self.nodes.find("", name) {
            self.stranded.lock().remove(uid);
            if terminating && is_out_of_service(&node) {
                self.remove(&pod, &OUT_OF_SERVICE).await?;
            }
            return Ok(Action::Done);
        }
        let now = self.clock.instant();
        let since = *self.stranded.lock().entry(uid.to_owned()).or_insert(now);
        let left = QUARANTINE.saturating_sub(now.saturating_duration_since(since));
        if !left.is_zero() {
            return Ok(Action::After(left));
        }
        // The cache may be behind.
        if self.client.all::<Node>().find(name).await?.is_none() {
            self.remove(&pod, &ORPHANED).await?;
        }
        Ok(Action::Done)
    }

    async fn remove(&self, pod: &Pod, cause: &Cause) -> Result<(), Error> {
        let done = self.try_remove(pod, cause.disruption).await;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        self.metrics.deleted(namespace, cause.reason, done.is_ok());
        done
    }

    /// Deletes a pod at once. One that has not finished has failed, by a disruption if `why` says so.
    async fn try_remove(&self, pod: &Pod, why: Option<&str>) -> Result<(), Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let pods = self.client.namespaced::<Pod>(namespace);
        if !is_finished(pod) {
            let mut status = json!({"phase": "Failed", "observedGeneration": pod.metadata.generation});
            if let Some(message) = why {
                status["conditions"] = json!([{
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "DeletionByPodGC",
                    "message": message,
                    "lastTransitionTime": Time(self.clock.now()),
                    "observedGeneration": pod.metadata.generation,
                }]);
            }
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.metadata.uid}, "status": status}));
            if gone_is_done(pods.status().patch(name, patch).await)?.is_none() {
                return Ok(());
            }
        }
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        gone_is_done(pods.delete(name, &options).await)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_finished_pods_evicted_ones_go_first_and_then_the_oldest() {
        let pod = |name: &str, minute: u8, status: serde_json::Value| {
            let created = format!("2026-01-01T00:{minute:02}:00Z");
            let pod = json!({"metadata": {"name": name, "creationTimestamp": created}, "status": status});
            Arc::new(serde_json::from_value::<Pod>(pod).unwrap())
        };
        let failed = |reason: &str| json!({"phase": "Failed", "reason": reason});
        let all = || {
            vec![
                pod("young", 9, json!({"phase": "Succeeded"})),
                pod("evicted", 8, failed("Evicted")),
                pod("b", 1, failed("")),
                pod("a", 1, failed("DeadlineExceeded")),
                pod("old", 0, json!({"phase": "Succeeded"})),
            ]
        };
        let go = |threshold| -> Vec<String> {
            let gone = surplus(all(), threshold);
            gone.iter().map(|p| p.metadata.name.clone().unwrap()).collect()
        };
        assert_eq!(go(0), ["evicted", "old", "a", "b", "young"]);
        assert_eq!(go(3), ["evicted", "old"]);
        assert!(go(5).is_empty() && go(6).is_empty());
    }
}
