//! Telling the API that the node is there and well: the Node object, its status when it changes or every five minutes,
//! and the Lease every ten seconds.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, Error, Patch};
use coracle_clock::{Clock, Instant};
use coracle_informer::CancellationToken;
use coracle_runtime::{ImageInfo, PodRuntime};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::machine::Machine;
use crate::node_object::{self, Health, Registration};
use crate::patience::RuntimeHealth;
use crate::pod::context::Context;

const CHECK: Duration = Duration::from_secs(10);
const REPORT: Duration = Duration::from_secs(300);
const LEASE_SECONDS: i32 = 40;
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// As upstream: a node tells at most of this many images, and of this many names of each.
const MOST_IMAGES: usize = 50;
const MOST_NAMES: usize = 5;
/// How long the runtime may take to list them, and to say how it is.
const ANSWER: Duration = Duration::from_secs(5);
/// Between attempts to renew the lease.
const FIRST_LEASE_RETRY: Duration = Duration::from_millis(200);
const LONGEST_LEASE_RETRY: Duration = Duration::from_secs(7);
/// Between attempts to reach an API server that cannot be reached.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Keeps the node's object and lease.
pub(crate) struct Registrar {
    pub(crate) client: Client,
    pub(crate) events: EventRecorder,
    pub(crate) clock: Clock,
    pub(crate) runtime: Arc<dyn PodRuntime>,
    pub(crate) registration: Registration,
    pub(crate) machine: Machine,
    pub(crate) cx: Arc<Context>,
    pub(crate) health: Arc<RuntimeHealth>,
    pub(crate) images: Mutex<Images>,
}

/// The images that were there last, and the question that is still open: a runtime that hangs does not keep the node from
/// telling so, and is not asked again.
#[derive(Default)]
pub(crate) struct Images {
    known: Vec<ContainerImage>,
    asked: Option<JoinHandle<Vec<Arc<ImageInfo>>>>,
}

impl Registrar {
    /// Registers the node as soon as the API server can be reached.
    pub(crate) async fn register_when_reached(&self) -> Result<Arc<Node>, Error> {
        let mut retry = FIRST_RETRY;
        loop {
            match self.register().await {
                Err(error @ (Error::Transport { .. } | Error::Timeout { .. })) => {
                    tracing::warn!(
                        node = self.registration.name,
                        error = &error as &dyn std::error::Error,
                        "the node is not registered; it is tried again"
                    );
                    self.clock.sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
                other => return other,
            }
        }
    }

    /// Creates the node, or takes up the one of its name, and says that it is ready.
    pub(crate) async fn register(&self) -> Result<Arc<Node>, Error> {
        let nodes = self.client.all::<Node>();
        let status = self.status(None).await;
        let wanted = node_object::node(&self.registration, &self.machine, status);
        let (node, known) = match nodes.create(&wanted).await {
            Ok(node) => (node, false),
            Err(error) if error.is_already_exists() => {
                // A node that has another certificate now tells so; one that an authority vouches for tells none.
                let mut annotations = json!(wanted.metadata.annotations);
                annotations[node_object::SERVING_CERTIFICATE] =
                    json!(self.registration.annotations.get(node_object::SERVING_CERTIFICATE));
                // What the agent was told to label it with counts when it is registered, and not again.
                let labels = node_object::own_labels(&self.registration, &self.machine);
                let known = json!({"metadata": {"labels": labels, "annotations": annotations}});
                (nodes.patch(&self.registration.name, Patch::Merge(known)).await?, true)
            }
            Err(error) => return Err(error),
        };
        let status = self.status(node.status.as_ref()).await;
        let told = node
            .status
            .as_ref()
            .is_some_and(|before| !node_object::differs(before, &status) && is_ready(before));
        tracing::info!(node = self.registration.name, "node is registered");
        let before = node.status.clone().filter(|_| known);
        if before
            .as_ref()
            .is_some_and(|before| node_object::has_rebooted(before, &self.machine))
        {
            let (name, boot) = (&self.registration.name, &self.machine.boot_id);
            let text = format!("Node {name} has been rebooted, boot id: {boot}");
            self.events.event(&*node, EventType::Warning, "Rebooted", text);
        }
        let node = if told {
            node
        } else {
            self.write(node.status.as_ref(), &status).await?
        };
        self.tell(&node, before.as_ref(), &status);
        Ok(node)
    }

    /// What has changed is an event.
    fn tell(&self, node: &Node, before: Option<&NodeStatus>, now: &NodeStatus) {
        for reason in node_object::transitions(before, now) {
            let text = format!("Node {} status is now: {reason}", self.registration.name);
            self.events.event(node, EventType::Normal, reason, text);
        }
    }

    async fn status(&self, before: Option<&NodeStatus>) -> NodeStatus {
        let state = &self.cx.state;
        let trouble = self.trouble().await;
        let health = Health {
            pressures: state.pressures.borrow().clone(),
            trouble,
        };
        let images = self.images().await;
        node_object::status(
            &self.registration,
            &self.machine,
            &health,
            images,
            before,
            self.clock.now(),
        )
    }

    /// Why the node is not ready, in upstream's words where it has them.
    async fn trouble(&self) -> Option<String> {
        if *self.cx.state.shutting_down.borrow() {
            return Some("node is shutting down".into());
        }
        let limit = self.cx.settings.runtime_request_timeout;
        if let Some(call) = self.health.hung(self.clock.instant(), limit) {
            let limit = limit.as_secs();
            return Some(format!(
                "container runtime is down: {call} was not answered within {limit}s"
            ));
        }
        // One that hangs is told of above, when it has hung for long enough.
        let answer = self.clock.timeout(ANSWER, self.runtime.trouble()).await;
        answer.unwrap_or_default()
    }

    /// The node's images, the largest first.
    async fn images(&self) -> Vec<ContainerImage> {
        let asked = self.images.lock().asked.take();
        let mut asked = asked.unwrap_or_else(|| {
            let runtime = self.runtime.clone();
            tokio::spawn(async move { runtime.images().await })
        });
        match self.clock.timeout(ANSWER, &mut asked).await {
            Err(_) => self.images.lock().asked = Some(asked),
            Ok(images) => self.images.lock().known = shown(&images.unwrap_or_default()),
        }
        self.images.lock().known.clone()
    }

    async fn write(&self, before: Option<&NodeStatus>, status: &NodeStatus) -> Result<Arc<Node>, Error> {
        let mut value = serde_json::to_value(status).unwrap_or_default();
        // Addresses go away as well as come.
        if let Some(addresses) = value.get_mut("addresses").and_then(Value::as_array_mut) {
            addresses.push(json!({"$patch": "replace"}));
        }
        if let Some(allocatable) = value.get_mut("allocatable").and_then(Value::as_object_mut) {
            let gone = before
                .map(|before| node_object::gone(before, status))
                .unwrap_or_default();
            allocatable.extend(gone.into_iter().map(|name| (name, Value::Null)));
        }
        let nodes = self.client.all::<Node>().status();
        nodes
            .patch(&self.registration.name, Patch::Strategic(json!({"status": value})))
            .await
    }

    /// Keeps both up to date until `shutdown`.
    pub(crate) async fn keep(self, node: Arc<Node>, shutdown: CancellationToken) {
        let mut known = node;
        let state = &self.cx.state;
        let (mut pressures, mut shutting_down) = (state.pressures.subscribe(), state.shutting_down.subscribe());
        let mut lease: Option<Arc<Lease>> = None;
        let mut failures: u32 = 0;
        let mut reported = self.clock.instant();
        let mut next: Instant = self.clock.instant();
        loop {
            let uid = known.metadata.uid.clone().unwrap_or_default();
            state.uid.send_if_modified(|told| {
                let changed = *told != uid;
                told.clone_from(&uid);
                changed
            });
            // What others have written into it meanwhile.
            let seen = state.object.borrow().clone();
            known = seen.filter(|seen| is_newer(seen, &known)).unwrap_or(known);
            pressures.mark_unchanged();
            shutting_down.mark_unchanged();
            match self.renew(lease.take(), &known).await {
                Ok(renewed) => {
                    lease = Some(renewed);
                    failures = 0;
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(node = self.registration.name, %error, "the node's lease was not renewed");
                }
            }
            let status = self.status(known.status.as_ref()).await;
            let changed = known
                .status
                .as_ref()
                .is_none_or(|before| node_object::differs(before, &status));
            if changed || self.clock.instant().duration_since(reported) >= REPORT {
                match self.write(known.status.as_ref(), &status).await {
                    Ok(node) => {
                        self.tell(&node, known.status.as_ref(), &status);
                        known = node;
                        reported = self.clock.instant();
                    }
                    Err(error) if error.is_not_found() => match self.register().await {
                        Ok(node) => known = node,
                        Err(error) => tracing::warn!(%error, "the node was deleted and could not be registered again"),
                    },
                    Err(error) => {
                        tracing::warn!(node = self.registration.name, %error, "the node's status was not written")
                    }
                }
            }
            next = (next + pause(failures)).max(self.clock.instant());
            tokio::select! {
                () = self.clock.sleep_until(next) => {}
                // A change of these is told at once.
                _ = pressures.changed() => {}
                _ = shutting_down.changed() => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn renew(&self, held: Option<Arc<Lease>>, node: &Node) -> Result<Arc<Lease>, Error> {
        let leases = self.client.namespaced::<Lease>(LEASE_NAMESPACE);
        let name = &self.registration.name;
        let held = match held {
            Some(held) => Some(held),
            None => leases.find(name).await?,
        };
        let mut lease = held.as_deref().cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(LEASE_NAMESPACE.into()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        });
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.clone(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        }]);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(self.clock.now())),
            ..LeaseSpec::default()
        });
        if held.is_some() {
            leases.update(&lease).await
        } else {
            leases.create(&lease).await
        }
    }
}

/// Images as a Node tells of them: the largest ones.
fn shown(images: &[Arc<ImageInfo>]) -> Vec<ContainerImage> {
    let all = images.iter().map(|image| ContainerImage {
        names: Some(
            image
                .repo_digests
                .iter()
                .chain(&image.repo_tags)
                .take(MOST_NAMES)
                .cloned()
                .collect(),
        ),
        size_bytes: i64::try_from(image.size).ok(),
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|image| (std::cmp::Reverse(image.size_bytes), image.names.clone()));
    all.truncate(MOST_IMAGES);
    all
}

/// Until the node is looked at again, after so many failures in a row to renew its lease.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => CHECK,
        n => (FIRST_LEASE_RETRY * (1 << (n - 1).min(8))).min(LONGEST_LEASE_RETRY),
    }
}

/// Versions of one object grow.
fn is_newer(node: &Node, than: &Node) -> bool {
    let version = |node: &Node| {
        node.metadata
            .resource_version
            .as_ref()
            .and_then(|v| v.parse::<u64>().ok())
    };
    node.metadata.uid == than.metadata.uid && version(node) > version(than)
}

fn is_ready(status: &NodeStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// reference/node/node-status: heartbeats.
    #[test]
    fn a_lease_update_that_fails_is_retried_with_exponential_backoff_from_200_milliseconds_to_7_seconds() {
        assert_eq!(pause(0), Duration::from_secs(10));
        let pauses: Vec<_> = (1..=8).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 7000, 7000]);
        assert_eq!(pause(u32::MAX), LONGEST_LEASE_RETRY);
    }

    #[test]
    fn what_another_has_written_into_the_node_is_seen_and_what_it_replaced_is_not() {
        let node = |uid: &str, version: &str| -> Node {
            let meta = json!({"metadata": {"uid": uid, "resourceVersion": version}});
            serde_json::from_value(meta).unwrap()
        };
        let known = node("a", "9");
        assert!(is_newer(&node("a", "10"), &known));
        assert!(!is_newer(&node("a", "9"), &known) && !is_newer(&node("a", "8"), &known));
        assert!(!is_newer(&node("b", "10"), &known));
    }
}
