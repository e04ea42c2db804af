//! The cluster of one story: server, controllers, scheduler and fake nodes on one thread, each behind its gate, each started
//! again whenever it has crashed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use coracle_api::service::{Operation, Request, Response, Service, UserInfo};
use coracle_api::status::Status;
use coracle_client::Client;
use coracle_client::leader::{LeaderConfig, LeaderElector};
use coracle_clock::{Clock, Random, Timestamp};
use coracle_fake_node::{Config, Fleet, FleetOptions, NodeTemplate};
use coracle_informer::{CancellationToken, InformerFactory};
use coracle_scheduler::{Scheduler, SchedulerOptions};
use coracle_server::{ApiServer, RunningServer, ServerOptions};
use coracle_store::{Embedded, EmbeddedOptions, HistoryLimits, KeyValue, ListOptions, Op, Store, Txn};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::RwLock;

use crate::chaos::Chaos;
use crate::gate::{Gate, Line};
use crate::history::{ACTOR, History};
use crate::rules::Rules;

/// Nodes that are there from the start.
pub const NODES: u32 = 3;

/// When every story begins.
pub fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// What every story begins with: certificates, and a store with the system's objects.
struct Beginning {
    pki: TempDir,
    keys: Vec<Arc<KeyValue>>,
}

static BEGINNING: LazyLock<Beginning> = LazyLock::new(|| {
    let pki = tempfile::tempdir().unwrap();
    let keys = in_virtual_time(async {
        let clock = Clock::starting_at(start());
        let store = Arc::new(memory(clock));
        serve(store.clone(), &pki, clock, 0).await.shutdown().await;
        store.list(ListOptions::default()).await.unwrap().items
    });
    Beginning { pki, keys }
});

/// Runs a story in virtual time on this thread.
pub fn run<T>(story: impl Future<Output = T>) -> T {
    LazyLock::force(&BEGINNING);
    in_virtual_time(story)
}

fn in_virtual_time<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

fn memory(clock: Clock) -> Embedded {
    // Nothing ages: that is done on another thread.
    let history = HistoryLimits {
        age: None,
        ..HistoryLimits::default()
    };
    Embedded::in_memory_with(EmbeddedOptions {
        clock,
        history,
        ..EmbeddedOptions::default()
    })
}

async fn serve(store: Arc<dyn Store>, pki: &TempDir, clock: Clock, seed: u64) -> RunningServer {
    let mut options = ServerOptions::new(store, pki.path());
    options.clock = clock;
    options.random = Random::seeded(seed);
    options.bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 6443));
    options.listens = false;
    ApiServer::start(options).await.unwrap()
}

fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo {
        name: name.to_owned(),
        groups: groups
            .iter()
            .chain(&["system:authenticated"])
            .map(|g| (*g).to_owned())
            .collect(),
        ..UserInfo::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Component {
    Controllers(u32),
    Scheduler,
    Nodes,
}

/// A component as it lives now, and its line to the server.
#[derive(Clone, Default)]
struct Life {
    end: CancellationToken,
    line: Arc<Line>,
}

/// The server as it runs now.
struct Serving {
    running: Option<RunningServer>,
    starts: u64,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct World {
    pub clock: Clock,
    pub history: Arc<History>,
    pub chaos: Arc<Chaos>,
    /// Whoever asks for it while it is started again, waits.
    serving: Arc<RwLock<Serving>>,
    seed: u64,
    lives: Arc<Mutex<BTreeMap<Component, Life>>>,
}

impl World {
    pub async fn begin(seed: u64, in_full: bool) -> Self {
        let clock = Clock::starting_at(start());
        let chaos = Arc::new(Chaos::new(seed));
        let store = memory(clock);
        let put = |kv: &Arc<KeyValue>| Op::Put {
            key: kv.key.to_string(),
            value: kv.value.clone(),
        };
        let ops = BEGINNING.keys.iter().map(put).collect();
        store
            .txn(Txn {
                compare: Vec::new(),
                ops,
            })
            .await
            .unwrap();
        let rules = Rules::new(chaos.profile.staleness());
        let history = Arc::new(History::new(store, clock, rules, in_full));
        let running = serve(history.clone(), &BEGINNING.pki, clock, seed).await;
        let world = Self {
            clock,
            history,
            chaos,
            serving: Arc::new(RwLock::new(Serving {
                running: Some(running),
                starts: 1,
            })),
            seed,
            lives: Arc::default(),
        };
        let managers = (0..world.chaos.profile.managers).map(Component::Controllers);
        for component in managers.chain([Component::Scheduler, Component::Nodes]) {
            tokio::spawn(world.clone().keep(component));
        }
        world
    }

    /// Ends the server and every component at once, and starts the server again on the same store; the components follow.
    pub async fn restart(&self) {
        let mut serving = self.serving.write().await;
        self.history.note("all ends");
        for life in self.lives.lock().values() {
            life.end.cancel();
        }
        if let Some(old) = serving.running.take() {
            old.shutdown().await;
        }
        // Another server has other chance: no uid is given twice.
        let seed = self.seed.wrapping_add(serving.starts << 40);
        serving.starts += 1;
        let store = self.history.clone();
        serving.running = Some(serve(store, &BEGINNING.pki, self.clock, seed).await);
        self.history.note("the server is back");
    }

    /// Cuts a component's line to the server for a while.
    pub fn cut_off(&self, chosen: usize) {
        let lives = self.lives.lock();
        let Some((component, life)) = lives.iter().nth(chosen % lives.len().max(1)) else {
            return;
        };
        let time = self.chaos.cut_off();
        life.line.cut(self.clock.instant() + time);
        self.history
            .note(format!("{component:?} is cut off for {:.1} s", time.as_secs_f64()));
    }

    async fn server(&self) -> ApiServer {
        let serving = self.serving.read().await;
        serving.running.as_ref().unwrap().service()
    }

    /// Starts a component, and again whenever its life has ended.
    async fn keep(self, component: Component) {
        loop {
            let life = {
                let mut lives = self.lives.lock();
                let life = lives.entry(component).or_default();
                life.end = CancellationToken::new();
                life.clone()
            };
            let living = tokio::spawn(self.clone().live(component, life.clone()));
            life.end.cancelled().await;
            living.abort();
            self.history.note(format!("{component:?} has crashed"));
            self.clock.sleep(self.chaos.absence()).await;
            self.history.note(format!("{component:?} is back"));
        }
    }

    async fn live(self, component: Component, life: Life) {
        match component {
            Component::Controllers(n) => {
                let client = self.client("system:kube-controller-manager", &life).await;
                let clock = self.clock;
                let controllers = |client: Client, end: CancellationToken| {
                    let cx = coracle_controllers::Context::new(client, clock, end, "an authority");
                    coracle_controllers::run(cx, |_| true)
                };
                if self.chaos.profile.managers == 1 {
                    return controllers(client, life.end).await;
                }
                let identity = format!("manager-{n}");
                // Renewing is most of what a quiet cluster writes.
                let config = LeaderConfig {
                    retry_period: Duration::from_secs(5),
                    ..LeaderConfig::new("kube-system", "kube-controller-manager", &identity)
                };
                let elector = LeaderElector::new(client.clone(), config, clock);
                elector
                    .run(life.end.clone(), |leading| controllers(client, leading))
                    .await;
                // Who leads no longer ends, and is a candidate in its next life.
                life.end.cancel();
            }
            Component::Scheduler => {
                let client = self.client("system:kube-scheduler", &life).await;
                let informers = InformerFactory::new(client.clone(), self.clock, life.end.clone());
                let options = SchedulerOptions {
                    seed: self.seed,
                    ..SchedulerOptions::default()
                };
                let scheduler = Scheduler::new(&client, self.clock, life.end.clone(), options);
                scheduler.run(&informers, life.end).await;
            }
            Component::Nodes => {
                let client = self.client("system:coracle:fake-node", &life).await;
                let options = FleetOptions {
                    clock: self.clock,
                    shutdown: life.end.clone(),
                    config: self.config(),
                    template: self.node(),
                    ..FleetOptions::new(client, NODES)
                };
                match Fleet::start(options).await {
                    Ok(fleet) => fleet.ended().await,
                    // As a service manager would, a little later.
                    Err(error) => {
                        self.history.note(format!("no fleet: {error}"));
                        self.clock.sleep(Duration::from_secs(1)).await;
                        life.end.cancel();
                    }
                }
            }
        }
    }

    async fn client(&self, name: &str, life: &Life) -> Client {
        let server = self.server().await;
        let registry = server.registry();
        let gate = Gate {
            server,
            chaos: self.chaos.clone(),
            clock: self.clock,
            line: life.line.clone(),
            life: life.end.clone(),
        };
        Client::in_process(Arc::new(gate), registry, user(name, &[]))
    }

    /// How much room a node has.
    pub fn cpus(&self) -> u64 {
        let profile = &self.chaos.profile;
        match (profile.tight, profile.claims) {
            (true, _) => 2,
            // Whatever is kept on one node has room there.
            (_, true) => 32,
            _ => 4,
        }
    }

    fn node(&self) -> NodeTemplate {
        let text = format!(
            "metadata:\n  annotations:\n    coracle.dev/local-volumes: /volumes\n\
             status:\n  capacity:\n    cpu: \"{}\"\n    pods: \"60\"\n",
            self.cpus()
        );
        NodeTemplate::parse(&text).unwrap()
    }

    fn config(&self) -> Config {
        let profile = &self.chaos.profile;
        let peace = self.chaos.is_peace();
        // Without faults one heartbeat within what a node may be silent is enough.
        let lease = if peace { 40 } else { 20 };
        let mut text = format!("seed: {}\nnodes:\n  leaseInterval: {lease}s\n", self.seed);
        if profile.outages && !peace {
            text.push_str("  outages:\n  - {fraction: 0.5, after: 10s..90s, lasting: 5s..120s}\n");
        }
        let (crashes, of_jobs) = if profile.failing_pods && !peace {
            (0.1, 0.25)
        } else {
            (0.0, 0.0)
        };
        text.push_str(&format!(
            "rules:\n- {{match: {{ownerKind: Job}}, run: 1s..20s, crashes: {of_jobs}}}\n- {{ready: 0s..5s, crashes: {crashes}, crashAfter: 1s..40s, terminate: 0s..4s}}\n"
        ));
        Config::parse(&text).unwrap()
    }

    /// From now on nothing goes wrong; nodes are given back their strength.
    pub fn make_peace(&self) {
        self.chaos.make_peace();
        self.history.note("peace");
        for (component, life) in &*self.lives.lock() {
            life.line.mend();
            if matches!(component, Component::Nodes) {
                life.end.cancel();
            }
        }
    }

    /// What an administrator asks, and nothing keeps from the server.
    pub async fn ask(&self, request: Request) -> Result<Response, Status> {
        let admin = user("kubernetes-admin", &["system:masters"]);
        let server = self.server().await;
        ACTOR.scope("user".into(), server.call(&admin, request)).await
    }

    pub fn operation(api_version: &str, plural: &str, name: &str, operation: Operation) -> Request {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let cluster_wide = matches!(
            plural,
            "nodes" | "priorityclasses" | "persistentvolumes" | "customresourcedefinitions"
        );
        let (plural, subresource) = plural.split_once('/').unwrap_or((plural, ""));
        Request {
            target: coracle_api::service::Target {
                group: group.to_owned(),
                version: version.to_owned(),
                resource: plural.to_owned(),
                namespace: if cluster_wide {
                    String::new()
                } else {
                    "default".to_owned()
                },
                name: name.to_owned(),
                subresource: subresource.to_owned(),
            },
            operation,
        }
    }
}
