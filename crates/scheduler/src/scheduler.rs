//! The scheduling loop, and the informers that feed it. One pod at a time is placed on what is in memory; binding goes on
//! beside the loop.

use std::sync::Arc;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, Patch};
use coracle_clock::Clock;
use coracle_informer::{CancellationToken, Change, InformerFactory};
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::cache::{Cache, PodInfo};
use crate::framework::{ClusterEvent, FitError, Profile};
use crate::plugins::default_profile;
use crate::queue::SchedulingQueue;

/// Upstream's name, for pods that name no other scheduler.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Bindings and status writes under way at once.
const WRITES: usize = 64;

/// How a scheduler is set up.
pub struct SchedulerOptions {
    pub profiles: Vec<Profile>,
    /// Ties between nodes are broken by this seed: the same inputs give the same placement.
    pub seed: u64,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            profiles: vec![default_profile(DEFAULT_SCHEDULER)],
            seed: 0,
        }
    }
}

/// Gives pods nodes. Runs until its shutdown.
pub struct Scheduler {
    shared: Arc<Shared>,
    seed: u64,
}

struct Shared {
    client: Client,
    clock: Clock,
    events: EventRecorder,
    profiles: Vec<Profile>,
    cache: Mutex<Cache>,
    queue: SchedulingQueue,
    writes: Arc<Semaphore>,
}

impl Scheduler {
    pub fn new(client: &Client, clock: Clock, shutdown: CancellationToken, options: SchedulerOptions) -> Self {
        let client = client.named("kube-scheduler");
        let events = EventRecorder::start(&client, DEFAULT_SCHEDULER, None, clock, shutdown);
        let shared = Shared {
            client,
            clock,
            events,
            profiles: options.profiles,
            cache: Mutex::default(),
            queue: SchedulingQueue::new(clock),
            writes: Arc::new(Semaphore::new(WRITES)),
        };
        Self {
            shared: Arc::new(shared),
            seed: options.seed,
        }
    }

    /// Waits for the caches, then schedules until `shutdown`; ends when the last binding has.
    pub async fn run(self, informers: &InformerFactory, shutdown: CancellationToken) {
        let nodes = informers.informer::<Node>();
        let pods = informers.informer::<Pod>();
        let shared = self.shared.clone();
        let node_handler = nodes.add_handler(move |change| shared.node_changed(change));
        let shared = self.shared.clone();
        let pod_handler = pods.add_handler(move |change| shared.pod_changed(change));
        let tasks = TaskTracker::new();
        let work = async {
            nodes.synced().await;
            pods.synced().await;
            let mut random = StdRng::seed_from_u64(self.seed);
            loop {
                let attempt = self.shared.queue.pop().await;
                self.shared.attempt(attempt.pod, &mut random, &tasks);
            }
        };
        shutdown.run_until_cancelled(work).await;
        nodes.remove_handler(node_handler);
        pods.remove_handler(pod_handler);
        tasks.close();
        tasks.wait().await;
    }
}

fn node_name(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .unwrap_or_default()
}

fn is_finished(pod: &Pod) -> bool {
    matches!(
        pod.status.as_ref().and_then(|s| s.phase.as_deref()),
        Some("Succeeded" | "Failed")
    )
}

impl Shared {
    fn profile(&self, pod: &Pod) -> Option<&Profile> {
        let name = pod
            .spec
            .as_ref()
            .and_then(|s| s.scheduler_name.as_deref())
            .unwrap_or(DEFAULT_SCHEDULER);
        self.profiles.iter().find(|p| p.scheduler_name == name)
    }

    fn wake(&self, event: &ClusterEvent<'_>) {
        self.queue.wake(|pod, rejected_by| {
            self.profile(&pod.pod)
                .is_some_and(|profile| profile.may_help(rejected_by, event, pod))
        });
    }

    fn node_changed(&self, change: &Change<Node>) {
        let node = change.object();
        if change.is_deletion() {
            self.cache
                .lock()
                .remove_node(node.metadata.name.as_deref().unwrap_or_default());
            return;
        }
        self.cache.lock().set_node(node.clone());
        match change.old() {
            None => self.wake(&ClusterEvent::NodeAdded(node)),
            Some(old) => self.wake(&ClusterEvent::NodeChanged { old, new: node }),
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.object();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let node = node_name(pod);
        if change.is_deletion() || is_finished(pod) {
            self.queue.remove(uid);
            let was_placed = {
                let mut cache = self.cache.lock();
                let was = cache.is_placed(uid);
                cache.remove_pod(uid);
                was
            };
            if was_placed {
                self.wake(&ClusterEvent::PodGone(pod));
            }
        } else if !node.is_empty() {
            self.queue.remove(uid);
            let is_new = change.old().is_none_or(|old| node_name(old).is_empty());
            self.cache.lock().set_pod(PodInfo::new(pod.clone()), node);
            if is_new {
                self.wake(&ClusterEvent::PodPlaced(pod));
            }
        } else if pod.metadata.deletion_timestamp.is_some() {
            self.queue.remove(uid);
        } else if let Some(profile) = self.profile(pod) {
            let gated = profile.pre_enqueue(pod).is_err();
            self.queue.set(PodInfo::new(pod.clone()), gated);
        }
    }

    /// One scheduling cycle; what must be written is written beside the loop.
    fn attempt(self: &Arc<Self>, pod: PodInfo, random: &mut StdRng, tasks: &TaskTracker) {
        let Some(profile) = self.profile(&pod.pod) else { return };
        let placed = {
            let mut cache = self.cache.lock();
            if cache.is_placed(pod.uid()) {
                return;
            }
            let placed = profile.schedule(&pod, &cache, &mut |n| random.random_range(0..n));
            if let Ok(node) = &placed {
                cache.assume(pod.clone(), node);
            }
            placed
        };
        let (this, writes) = (self.clone(), self.writes.clone());
        match placed {
            Ok(node) => {
                tasks.spawn(async move {
                    let _permit = writes.acquire().await;
                    this.bind(pod, &node).await;
                });
            }
            Err(error) => {
                self.queue.unschedulable(pod.uid(), error.plugins.clone());
                tasks.spawn(async move {
                    let _permit = writes.acquire().await;
                    this.tell_unschedulable(&pod, &error).await;
                });
            }
        }
    }

    async fn bind(&self, info: PodInfo, node: &str) {
        let pod = &info.pod;
        let (namespace, name) = names(pod);
        let pods = self.client.namespaced::<Pod>(namespace);
        match pods.bind(name, pod.metadata.uid.as_deref(), node).await {
            Ok(()) => {
                self.queue.remove(info.uid());
                let message = format!("Successfully assigned {} to {node}", info.key());
                self.events.event(&**pod, EventType::Normal, "Scheduled", message);
                tracing::info!(pod = info.key(), node, "bound");
            }
            Err(error) => {
                self.cache.lock().forget(info.uid());
                if error.is_not_found() {
                    self.queue.remove(info.uid());
                    return;
                }
                tracing::warn!(pod = info.key(), node, %error, "a pod could not be bound; trying again");
                self.events.event(
                    &**pod,
                    EventType::Warning,
                    "FailedScheduling",
                    format!("binding rejected: {error}"),
                );
                self.queue.retry(info.uid());
            }
        }
    }

    /// The event and the PodScheduled condition that say why no node fits.
    async fn tell_unschedulable(&self, info: &PodInfo, error: &FitError) {
        let pod = &info.pod;
        let message = error.to_string();
        tracing::debug!(pod = info.key(), message, "no node fits");
        self.events
            .event(&**pod, EventType::Warning, "FailedScheduling", message.clone());
        let current = pod
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .find(|c| c.type_ == "PodScheduled");
        if current.is_some_and(|c| c.status == "False" && c.message.as_deref() == Some(&message)) {
            return;
        }
        let since = current
            .filter(|c| c.status == "False")
            .and_then(|c| c.last_transition_time.clone());
        let condition = PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some("Unschedulable".into()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or_else(|| Time(self.clock.now()))),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        };
        let (namespace, name) = names(pod);
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let pods = self.client.namespaced::<Pod>(namespace).status();
        if let Err(error) = pods.patch(name, Patch::Strategic(patch)).await
            && !error.is_not_found()
        {
            tracing::warn!(pod = info.key(), %error, "the PodScheduled condition could not be written");
        }
    }
}

fn names(pod: &Pod) -> (&str, &str) {
    (
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    )
}
