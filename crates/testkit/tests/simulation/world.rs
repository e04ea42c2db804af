//! The cluster of one story: server, controllers, scheduler and fake nodes on one thread, each behind its gate, each started
//! again whenever it has crashed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use coracle_api::service::{Operation, Request, Response, Service, UserInfo};
use coracle_api::status::Status;
use coracle_client::Client;
use coracle_clock::{Clock, Random, Timestamp};
use coracle_fake_node::{Config, Fleet, FleetOptions, NodeTemplate};
use coracle_informer::{CancellationToken, InformerFactory};
use coracle_scheduler::{Scheduler, SchedulerOptions};
use coracle_server::{ApiServer, RunningServer, ServerOptions};
use coracle_store::{Embedded, EmbeddedOptions, HistoryLimits, KeyValue, ListOptions, Op, Store, Txn};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::chaos::Chaos;
use crate::gate::Gate;
use crate::history::{ACTOR, History};
use crate::rules::Rules;

/// Nodes that are there from the start.
pub const NODES: u32 = 3;
/// What a node has.
const TEMPLATE: &str = "status:\n  capacity:\n    cpu: \"4\"\n    pods: \"30\"\n";

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

#[derive(Clone, Copy, Debug)]
enum Component {
    Controllers,
    Scheduler,
    Nodes,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct World {
    pub clock: Clock,
    pub history: Arc<History>,
    pub chaos: Arc<Chaos>,
    server: ApiServer,
    seed: u64,
    /// The fleet's life, to end it when peace is made.
    fleet: Arc<Mutex<CancellationToken>>,
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
            server: running.service(),
            seed,
            fleet: Arc::default(),
        };
        for component in [Component::Controllers, Component::Scheduler, Component::Nodes] {
            tokio::spawn(world.clone().keep(component));
        }
        world
    }

    /// Starts a component, and again whenever its life has ended.
    async fn keep(self, component: Component) {
        loop {
            let life = CancellationToken::new();
            if matches!(component, Component::Nodes) {
                *self.fleet.lock() = life.clone();
            }
            let living = tokio::spawn(self.clone().live(component, life.clone()));
            life.cancelled().await;
            living.abort();
            self.history.note(format!("{component:?} has crashed"));
            self.clock.sleep(self.chaos.absence()).await;
            self.history.note(format!("{component:?} is back"));
        }
    }

    async fn live(self, component: Component, life: CancellationToken) {
        match component {
            Component::Controllers => {
                let client = self.client("system:kube-controller-manager", &life);
                let cx = coracle_controllers::Context::new(client, self.clock, life, "an authority");
                coracle_controllers::run(cx, |_| true).await;
            }
            Component::Scheduler => {
                let client = self.client("system:kube-scheduler", &life);
                let informers = InformerFactory::new(client.clone(), self.clock, life.clone());
                let options = SchedulerOptions {
                    seed: self.seed,
                    ..SchedulerOptions::default()
                };
                let scheduler = Scheduler::new(&client, self.clock, life.clone(), options);
                scheduler.run(&informers, life).await;
            }
            Component::Nodes => {
                let client = self.client("system:coracle:fake-node", &life);
                let options = FleetOptions {
                    clock: self.clock,
                    shutdown: life.clone(),
                    config: self.config(),
                    template: NodeTemplate::parse(TEMPLATE).unwrap(),
                    ..FleetOptions::new(client, NODES)
                };
                match Fleet::start(options).await {
                    Ok(fleet) => fleet.ended().await,
                    // As a service manager would, a little later.
                    Err(error) => {
                        self.history.note(format!("no fleet: {error}"));
                        self.clock.sleep(Duration::from_secs(1)).await;
                        life.cancel();
                    }
                }
            }
        }
    }

    fn client(&self, name: &str, life: &CancellationToken) -> Client {
        let gate = Gate {
            server: self.server.clone(),
            chaos: self.chaos.clone(),
            clock: self.clock,
            life: life.clone(),
        };
        Client::in_process(Arc::new(gate), self.server.registry(), user(name, &[]))
    }

    fn config(&self) -> Config {
        let profile = &self.chaos.profile;
        let peace = self.chaos.is_peace();
        let mut text = format!("seed: {}\nnodes:\n  leaseInterval: 20s\n", self.seed);
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
        self.fleet.lock().cancel();
    }

    /// What an administrator asks, and nothing keeps from the server.
    pub async fn ask(&self, request: Request) -> Result<Response, Status> {
        let admin = user("kubernetes-admin", &["system:masters"]);
        ACTOR.scope("user".into(), self.server.call(&admin, request)).await
    }

    pub fn operation(group: &str, plural: &str, name: &str, operation: Operation) -> Request {
        let cluster_wide = matches!(plural, "nodes" | "priorityclasses");
        let (plural, subresource) = plural.split_once('/').unwrap_or((plural, ""));
        Request {
            target: coracle_api::service::Target {
                group: group.to_owned(),
                version: "v1".to_owned(),
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
