//! The scheduling loop. One pod at a time is placed on what is in memory; binding, evicting and telling go on beside the
//! loop. [`handlers`] feed it, [`binding`] and [`preemption`] carry out what it decides, [`failure`] tells why it could not.

mod binding;
mod failure;
mod handlers;
mod preemption;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_client::Client;
use coracle_client::event::EventRecorder;
use coracle_clock::{Clock, Instant};
use coracle_informer::{CancellationToken, InformerFactory};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::cache::Cache;
use crate::config::SchedulerConfiguration;
use crate::cycle::{Found, NotFound, Search};
use crate::event::ClusterEvent;
use crate::framework::{Plugin, Point, Rejection, Severity};
use crate::listers::{Listers, Needs};
use crate::metrics::Metrics;
use crate::nominator::Nominator;
use crate::profile::Profile;
use crate::queue::{Attempt, Gates, Hints, SchedulingQueue};
use crate::shape::{PodInfo, Shapes};
use crate::waiting::WaitingPods;

use turns::{Turn, Turns};

/// Upstream's name, for pods that name no other scheduler.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Bindings and status writes under way at once.
const WRITES: usize = 64;

/// How a scheduler is set up.
#[derive(Clone, Default)]
pub struct SchedulerOptions {
    pub configuration: SchedulerConfiguration,
    /// Plugins beside the default ones; the configuration enables them by name.
    pub plugins: Vec<Arc<dyn Plugin>>,
    /// Ties between nodes are broken by this seed: the same inputs give the same placement.
    pub seed: u64,
    /// Pods that Permit plugins hold back; a plugin that allows them has a clone of it.
    pub waiting: Arc<WaitingPods>,
    /// What counts; whoever serves metrics [registers](Metrics::register) a clone of it.
    pub metrics: Metrics,
}

/// Gives pods nodes. Runs until its shutdown.
pub struct Scheduler {
    shared: Arc<Shared>,
    seed: u64,
    percentage: u32,
}

struct Shared {
    client: Client,
    clock: Clock,
    profiles: Arc<Vec<Profile>>,
    /// One per profile, in the same order: events say which scheduler speaks.
    events: Vec<EventRecorder>,
    cache: Cache,
    queue: SchedulingQueue,
    shapes: Shapes,
    nominator: Nominator,
    waiting: Arc<WaitingPods>,
    metrics: Metrics,
    listers: Arc<Listers>,
    writes: Arc<Semaphore>,
    turns: Turns,
    /// Some pod selects namespaces by label, so that theirs must be known.
    namespaces_count: AtomicBool,
    tasks: TaskTracker,
}

fn profile_of<'a>(profiles: &'a [Profile], pod: &Pod) -> Option<(usize, &'a Profile)> {
    let spec = pod.spec.as_ref();
    let name = spec
        .and_then(|s| s.scheduler_name.as_deref())
        .filter(|n| !n.is_empty())
        .unwrap_or(DEFAULT_SCHEDULER);
    profiles.iter().enumerate().find(|(_, p)| p.scheduler_name == name)
}

impl Scheduler {
    pub fn new(client: &Client, clock: Clock, shutdown: CancellationToken, options: SchedulerOptions) -> Self {
        let client = client.named("kube-scheduler");
        let listers = Arc::new(Listers::watching());
        let configuration = options.configuration;
        let profiles = configuration.profiles.iter();
        let profiles: Vec<Profile> = profiles
            .map(|p| p.build(&listers, &options.plugins).counted_by(&options.metrics))
            .collect();
        let profiles = Arc::new(profiles);
        let recorder = |p: &Profile| EventRecorder::start(&client, &p.scheduler_name, None, clock, shutdown.clone());
        let events = profiles.iter().map(recorder).collect();
        let hinted = profiles.clone();
        let hints: Hints = Box::new(move |event, pod, rejected_by| {
            profile_of(&hinted, &pod.pod).is_some_and(|(_, p)| p.may_help(rejected_by, event, pod))
        });
        let gated = profiles.clone();
        let gates: Gates = Box::new(move |pod| profile_of(&gated, &pod.pod)?.1.gate(&pod.pod));
        let shared = Shared {
            client,
            clock,
            events,
            cache: Cache::default(),
            queue: SchedulingQueue::new(clock, configuration.backoff, hints, gates, options.metrics.clone()),
            shapes: Shapes::default(),
            nominator: Nominator::default(),
            waiting: options.waiting,
            metrics: options.metrics,
            listers,
            profiles,
            writes: Arc::new(Semaphore::new(WRITES)),
            turns: Turns::default(),
            namespaces_count: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        };
        Self {
            shared: Arc::new(shared),
            seed: options.seed,
            percentage: configuration.percentage_of_nodes_to_score,
        }
    }

    /// Waits for the caches, then schedules until `shutdown`; ends when the last binding has.
    pub async fn run(self, informers: &InformerFactory, shutdown: CancellationToken) {
        let shared = &self.shared;
        let woken = Arc::downgrade(shared);
        let wake = move |event| {
            if let Some(shared) = woken.upgrade() {
                shared.queue.wake(event);
            }
        };
        shared.listers.watch_by(informers.clone(), Arc::new(wake));
        for key in shared.profiles.iter().flat_map(Profile::topology_keys) {
            shared.cache.cycle().need_topology(&key);
        }
        let nodes = informers.informer::<Node>();
        let pods = informers.informer::<Pod>();
        let told = shared.clone();
        let node_handler = nodes.add_handler(move |change| told.node_changed(change));
        let told = shared.clone();
        let pod_handler = pods.add_handler(move |change| told.pod_changed(change));
        let work = async {
            nodes.synced().await;
            pods.synced().await;
            let mut search = Search::new(self.seed, self.percentage);
            loop {
                let attempt = shared.queue.pop().await;
                shared.attempt(attempt, &mut search).await;
                // Others of this thread have their turn between cycles.
                tokio::task::coop::consume_budget().await;
            }
        };
        shutdown.run_until_cancelled(work).await;
        nodes.remove_handler(node_handler);
        pods.remove_handler(pod_handler);
        shared.tasks.close();
        shutdown_tasks(&shared.tasks, &shared.waiting).await;
    }
}

/// Pods that wait for a permit would hold up the end.
async fn shutdown_tasks(tasks: &TaskTracker, waiting: &WaitingPods) {
    waiting.reject_all("the scheduler is shutting down");
    tasks.wait().await;
}

/// An attempt under way, after a node was found.
struct Placement {
    attempt: Attempt,
    profile: usize,
    node: Arc<str>,
    state: crate::framework::CycleState,
    started: Instant,
    turn: Turn,
}

impl Shared {
    /// One scheduling cycle; what must be written is written beside the loop.
    async fn attempt(self: &Arc<Self>, attempt: Attempt, search: &mut Search) {
        let started = self.clock.instant();
        let pod = &attempt.pod;
        let Some((number, profile)) = profile_of(&self.profiles, &pod.pod) else {
            self.queue.remove(pod.uid());
            return;
        };
        if self.cache.is_placed(pod.uid()) || pod.is_terminating() {
            self.queue.remove(pod.uid());
            return;
        }
        let mut needs = profile.needs(pod);
        if self.namespaces_count.load(Ordering::Relaxed) {
            needs = needs | Needs::NAMESPACES;
        }
        let outcome = loop {
            if !self.listers.has(needs) {
                self.listers.ensure(needs).await;
            }
            match self.cycle(profile, pod, search) {
                Err(not_found) if not_found.action.wants != Needs::NOTHING => needs = needs | not_found.action.wants,
                outcome => break outcome,
            }
        };
        self.metrics.algorithm(started.elapsed());
        match outcome {
            Ok(found) => self.place(attempt, number, found, started),
            Err(not_found) => self.reject(attempt, number, *not_found, started),
        }
        let (pods, assumed) = self.cache.counts();
        let nodes = self.cache.cycle().len();
        self.metrics.cache_size(nodes, pods, assumed);
    }

    fn cycle(&self, profile: &Profile, pod: &PodInfo, search: &mut Search) -> Result<Found, Box<NotFound>> {
        let mut view = self.cache.cycle();
        for key in pod.shape.topology_keys() {
            view.need_topology(key);
        }
        search.schedule(profile, pod, &view, &self.nominator.current())
    }

    /// Assumes the pod on its node and takes what it needs there; the rest goes on beside the loop.
    fn place(self: &Arc<Self>, attempt: Attempt, number: usize, found: Found, started: Instant) {
        let profile = &self.profiles[number];
        let Found { node, mut state, .. } = found;
        let pod = attempt.pod.clone();
        self.cache.assume(pod.clone(), &node);
        self.nominator.remove(pod.uid());
        let timing = profile.timer.start();
        let reserved = profile.reserve(&mut state, &pod, &node);
        timing.end(Point::Reserve, reserved.is_ok());
        let permit = reserved.and_then(|()| {
            let timing = profile.timer.start();
            let permit = profile.permit(&state, &pod, &node);
            timing.end(Point::Permit, permit.is_ok());
            permit
        });
        let placement = Placement {
            attempt,
            profile: number,
            node,
            state,
            started,
            turn: self.turns.take(pod.uid()),
        };
        let this = self.clone();
        match permit {
            Ok(waits) => {
                let enter = || self.waiting.enter(pod.uid(), waits.clone(), self.clock);
                let answer = (!waits.is_empty()).then(enter);
                self.tasks.spawn(async move { this.bind(placement, answer).await });
            }
            Err((plugin, rejection)) => {
                profile.unreserve(&placement.state, &pod, &placement.node);
                self.let_go(placement, plugin, rejection);
            }
        }
    }

    /// The pod was assumed and cannot be bound after all. Where no plugin said so, anything that happens may help.
    fn let_go(self: &Arc<Self>, placement: Placement, plugin: &'static str, rejection: Rejection) {
        let Placement {
            attempt,
            profile,
            started,
            ..
        } = placement;
        let pod = attempt.pod.clone();
        self.give_back(&pod);
        // Before the pod can be tried again, and told of again.
        let nowhere = Some("".into());
        self.tell(attempt, profile, self.failed_after(&rejection), nowhere, started);
        match rejection.severity {
            Severity::Error => self.queue.retry(pod.uid()),
            Severity::Unschedulable | Severity::Unresolvable => {
                let rejected_by = [plugin].into_iter().filter(|p| !p.is_empty());
                self.queue.unschedulable(pod.uid(), rejected_by.collect());
            }
        }
    }

    /// The pod was assumed on a node, and what it held there is free again.
    fn give_back(&self, pod: &PodInfo) {
        if self.cache.forget(pod.uid()) {
            self.queue.wake(ClusterEvent::PodGone(pod.clone()));
        }
    }

    /// No node: the pod waits for better times, and room is made for it if that can be.
    fn reject(self: &Arc<Self>, attempt: Attempt, number: usize, not_found: NotFound, started: Instant) {
        let NotFound { error, action } = not_found;
        let pod = attempt.pod.clone();
        match &action.nominate {
            Some(node) if node.is_empty() => self.nominator.remove(pod.uid()),
            Some(node) => self.nominator.nominate(pod.clone(), node),
            None => {}
        }
        if let Some(node) = action.nominate.as_ref().filter(|_| !action.victims.is_empty()) {
            self.metrics.victims(action.victims.len());
            self.queue.hold(pod.uid());
            self.preempt(pod.clone(), number, node.clone(), action.victims);
        }
        match error.is_error {
            true => self.queue.retry(pod.uid()),
            false => self.queue.unschedulable(pod.uid(), error.plugins.clone()),
        }
        self.tell(attempt, number, error, action.nominate, started);
    }
}
