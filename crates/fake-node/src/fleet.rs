//! The fake nodes of a process: started, kept alive, their pods followed. One informer of nodes and one of pods put keys
//! into one queue, whose timers are the only ones there are; a bounded set of workers makes the writes.

mod pods;
mod registration;
mod state;

use std::sync::{Arc, OnceLock};

use coracle_client::event::EventRecorder;
use coracle_client::{Client, ObjectKey};
use coracle_clock::Clock;
use coracle_informer::{CancellationToken, Change, InformerOptions, Metrics, QueueOptions, SharedInformer, WorkQueue};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::task::JoinSet;

use crate::config::rule::{Stages, stages_of};
use crate::config::{Config, dead_until};
use crate::draw::Draw;
use crate::node_object::{Endpoint, FLEET_LABEL, outdated};
use crate::plan::{deletion, has_ended};
use crate::record::group;
use crate::server::{self, Followers, Serving, Usages};
use crate::status::millis;
use crate::template::NodeTemplate;
use crate::told;
use state::State;

/// What a fleet is made of.
pub struct FleetOptions {
    pub client: Client,
    pub clock: Clock,
    pub shutdown: CancellationToken,
    /// Names the fleet and, with a number behind it, its nodes: `fake-0`.
    pub name: String,
    /// How many nodes are there from the start.
    pub nodes: u32,
    pub config: Config,
    pub template: NodeTemplate,
    /// The endpoint for logs of all its nodes; without it they have none.
    pub serving: Option<Serving>,
    /// Writes under way at once.
    pub workers: usize,
    /// Where its queue is counted.
    pub metrics: Metrics,
}

impl FleetOptions {
    /// So many nodes with all defaults.
    pub fn new(client: Client, nodes: u32) -> Self {
        Self {
            client,
            clock: Clock::system(),
            shutdown: CancellationToken::new(),
            name: "fake".into(),
            nodes,
            config: Config::default(),
            template: NodeTemplate::default(),
            serving: None,
            workers: 16,
            metrics: Metrics::default(),
        }
    }
}

/// Why a fleet does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{nodes} nodes need more ranges of /{prefix} than {cidr} has; give nodes.podCIDR more room or nodes.podPrefixLength a longer prefix"
    )]
    Room { nodes: u32, prefix: u8, cidr: String },
    #[error(
        "{0:?} cannot name nodes: use lower case letters, digits and -, beginning and ending with a letter or digit"
    )]
    Name(String),
    #[error("node {0} is there and is no node of this fleet; give the fleet another name")]
    Taken(String),
    #[error("cannot create node {name}")]
    Create {
        name: String,
        #[source]
        source: coracle_client::Error,
    },
    #[error("cannot serve the fake nodes' endpoint")]
    Serve(#[from] server::Error),
    #[error("shut down before the nodes were there")]
    ShutDown,
}

/// What a worker works on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// The node's object and status.
    Node(Arc<str>),
    Lease(Arc<str>),
    Pod(ObjectKey<Pod>),
}

/// Running fake nodes.
pub struct Fleet {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    client: Client,
    clock: Clock,
    name: String,
    config: Config,
    template: NodeTemplate,
    endpoint: Endpoint,
    events: Option<EventRecorder>,
    /// Of logs.
    followers: Arc<Followers>,
    state: State,
    queue: WorkQueue<Key>,
    nodes: SharedInformer<Node>,
    /// Begun once the nodes are there.
    pods: OnceLock<SharedInformer<Pod>>,
}

fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let outer = |c: Option<char>| c.is_some_and(|c| inner(c) && c != '-');
    text.len() <= 50 && text.chars().all(inner) && outer(text.chars().next()) && outer(text.chars().last())
}

impl Fleet {
    /// Creates the nodes that are not there, and returns when all are Ready; they live until the shutdown.
    pub async fn start(options: FleetOptions) -> Result<Self, Error> {
        let FleetOptions {
            client,
            clock,
            shutdown,
            name,
            nodes: count,
            config,
            template,
            serving,
            workers,
            metrics,
        } = options;
        let queue = QueueOptions {
            metrics: metrics.clone(),
            ..QueueOptions::default()
        };
        if !is_name(&name) {
            return Err(Error::Name(name));
        }
        let (cidr, prefix) = (config.nodes.pod_cidr, config.nodes.pod_prefix_length);
        if cidr.parts(prefix) < u64::from(count) {
            return Err(Error::Room {
                nodes: count,
                prefix,
                cidr: cidr.to_string(),
            });
        }
        let listener = match &serving {
            Some(serving) => Some(server::bind(serving).await?),
            None => None,
        };
        let endpoint = Endpoint {
            address: listener
                .as_ref()
                .map_or_else(|| "127.0.0.1".into(), |l| l.address().to_string()),
            port: listener.as_ref().map(server::Listener::port),
        };
        let own = InformerOptions {
            label_selector: format!("{FLEET_LABEL}={name}"),
            ..InformerOptions::default()
        };
        let nodes = SharedInformer::start(client.all::<Node>(), &own, clock, &shutdown, &metrics);
        nodes.synced().await;
        let shared = Arc::new(Shared {
            state: State::new(cidr, prefix, count),
            queue: WorkQueue::with("fake-node", clock, queue),
            nodes,
            pods: OnceLock::new(),
            followers: Arc::default(),
            events: config
                .nodes
                .events
                .then(|| EventRecorder::start(&client, "kubelet", None, clock, shutdown.clone())),
            client,
            clock,
            name,
            config,
            template,
            endpoint,
        });
        for node in shared.nodes.lister().list() {
            shared.adopt(&node);
        }
        if let Err(error) = shared.register(count, workers, &shutdown).await {
            shared.nodes.stop();
            return Err(error);
        }

        let weak = Arc::downgrade(&shared);
        shared.nodes.add_handler(move |change| {
            if let Some(shared) = weak.upgrade() {
                shared.node_changed(change);
            }
        });
        // Pods are looked at when the nodes that they are on are known, and in the order of the list.
        let pods = SharedInformer::start(
            shared.client.all::<Pod>(),
            &InformerOptions::default(),
            clock,
            &shutdown,
            &metrics,
        );
        let pods = shared.pods.get_or_init(|| pods);
        let weak = Arc::downgrade(&shared);
        pods.add_handler(move |change| {
            if let Some(shared) = weak.upgrade() {
                shared.pod_changed(change);
            }
        });
        pods.synced().await;

        let mut tasks = JoinSet::new();
        for _ in 0..workers.max(1) {
            tasks.spawn(shared.clone().work());
        }
        if let Some(listener) = listener {
            let lives = shared.clone();
            let view = server::View {
                fleet: shared.name.clone(),
                clock,
                pods: pods.clone(),
                nodes: shared.nodes.lister(),
                followers: shared.followers.clone(),
                lives: Box::new(move |pod| lives.life_of(pod)),
                usages: Usages::default(),
            };
            tasks.spawn(listener.serve(view, shutdown.clone()));
        }
        let queue = shared.queue.clone();
        tasks.spawn(async move {
            shutdown.cancelled().await;
            queue.abandon();
        });
        tracing::info!(fleet = shared.name, nodes = shared.state.len(), "fake nodes are ready");
        Ok(Self { shared, tasks })
    }

    /// How many nodes live.
    pub fn nodes(&self) -> usize {
        self.shared.state.len()
    }

    /// How many pods are on them.
    pub fn pods(&self) -> usize {
        self.shared.state.pods()
    }

    /// Waits for the shutdown and the end of everything.
    pub async fn ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Shared {
    fn now(&self) -> i64 {
        millis(self.clock.now())
    }

    fn look_again(&self, key: Key, at: i64) {
        let left = u64::try_from(at.saturating_sub(self.now())).unwrap_or(0);
        self.queue.add_after(key, std::time::Duration::from_millis(left));
    }

    /// Takes up a node of this fleet, whoever made it.
    fn adopt(&self, node: &Node) {
        let Some(name) = node.metadata.name.as_deref() else {
            return;
        };
        let windows = self.config.nodes.outages_of(self.config.seed, name, self.now());
        if self.state.adopt(node, windows) {
            self.queue.add(Key::Lease(name.into()));
            self.queue.add(Key::Node(name.into()));
        }
    }

    fn node_changed(&self, change: &Change<Node>) {
        let node = change.object();
        let Some(name) = node.metadata.name.as_deref() else {
            return;
        };
        if change.is_deletion() {
            // It stays deleted: its pods are the pod garbage collector's now.
            self.state.forget(node);
            return;
        }
        if !self.state.has(name) {
            self.adopt(node);
            for pod in self.pods.get().into_iter().flat_map(|p| p.lister().list()) {
                if pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(name) {
                    self.take_up(&pod);
                }
            }
        } else if change.old().is_none() || outdated(node, &self.endpoint) {
            // One made by this process was adopted before the informer had it, and has waited for this.
            self.adopt(node);
            self.queue.add(Key::Node(name.into()));
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        self.followers.tell(change.object());
        if change.is_deletion() {
            self.state.drop_pod(change.object());
            return;
        }
        // Another pod took the name while nobody looked.
        if let Some(old) = change
            .old()
            .filter(|old| old.metadata.uid != change.object().metadata.uid)
        {
            self.state.drop_pod(old);
        }
        let (pod, running) = (change.object(), |p: &Arc<Pod>| p.metadata.deletion_timestamp.is_none());
        if self.events.is_some() && !running(pod) && change.old().is_some_and(running) {
            let node = pod
                .spec
                .as_ref()
                .and_then(|s| s.node_name.as_deref())
                .unwrap_or_default();
            if self.state.has(node) && self.dead(node).is_none() {
                self.tell(pod, node, told::stopping(pod));
            }
        }
        self.take_up(pod);
    }

    fn take_up(&self, pod: &Pod) {
        let (ended, deletion) = (has_ended(pod), deletion(pod));
        let node = pod
            .spec
            .as_ref()
            .and_then(|s| s.node_name.as_deref())
            .unwrap_or_default();
        if self.dead(node).is_some() {
            // Its time begins, and the time to stop it, when the node is back; but its address is taken.
            let begun = pod.status.as_ref().is_some_and(|s| s.start_time.is_some());
            if begun && deletion.is_none() {
                self.state.accept(pod, ended, self.now());
            }
        } else if !self.state.accept(pod, ended, self.now()) || (ended && deletion.is_none()) {
            return;
        }
        self.queue.add(Key::Pod(ObjectKey::of(pod)));
    }

    /// How the pod lives, and its chances; none if its node is dead or not of this fleet.
    fn life_of(&self, pod: &Pod) -> Option<(Stages, Draw)> {
        let node = pod.spec.as_ref()?.node_name.as_deref()?;
        if self.dead(node).is_some() {
            return None;
        }
        let (stages, _) = stages_of(&self.config.rules, pod);
        Some((
            stages,
            Draw::of_pod(self.config.seed, group(pod), self.state.ordinal(pod)?),
        ))
    }

    /// Until when the node is dead, if it is: `Some(None)` is for ever.
    fn dead(&self, node: &str) -> Option<Option<i64>> {
        dead_until(&self.state.windows(node)?, self.now())
    }

    async fn work(self: Arc<Self>) {
        while let Some(key) = self.queue.get().await {
            let attempt = std::panic::AssertUnwindSafe(self.reconcile(&key));
            match attempt.catch_unwind().await {
                Ok(Ok(())) => self.queue.forget(&key),
                Ok(Err(error)) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(?key, %error, source, "a fake node's write failed; it is tried again");
                    self.queue.add_rate_limited(key.clone());
                }
                Err(_) => {
                    tracing::error!(?key, "a fake node's work panicked; it is tried again");
                    self.queue.add_rate_limited(key.clone());
                }
            }
            self.queue.done(&key);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<(), coracle_client::Error> {
        match key {
            Key::Node(name) => self.report_node(name).await,
            Key::Lease(name) => self.renew(name).await,
            Key::Pod(pod) => self.follow(pod).await,
        }
    }
}
