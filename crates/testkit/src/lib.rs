//! A whole cluster inside a test: the real API server on a free port, the real controllers and scheduler, the memory
//! engine of the store, and a clock that the test may turn.
//!
//! ```no_run
//! # async fn example() -> Result<(), coracle_testkit::Error> {
//! use coracle_testkit::TestCluster;
//! use k8s_openapi::api::core::v1::ConfigMap;
//!
//! let cluster = TestCluster::start().await?;
//! let mut map = ConfigMap::default();
//! map.metadata.name = Some("settings".into());
//! cluster.client.namespaced::<ConfigMap>("default").create(&map).await?;
//! // Other clients: the kubeconfig is in cluster.kubeconfig().
//! cluster.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! There is no node: pods stay Pending, as in `coracle up --no-node`. Nothing is faked: what a test sees here it sees on a
//! cluster.
//!
//! Unless it asks for fake nodes, on which pods run without containers, with the delays and failures of a
//! [`Config`](coracle_fake_node::Config) (`docs/fake-nodes.md`). In virtual time a rollout of minutes takes milliseconds:
//!
//! ```no_run
//! # async fn example() -> Result<(), coracle_testkit::Error> {
//! use coracle_testkit::{Clock, FakeNodes, Options, TestCluster};
//!
//! // In a test with #[tokio::test(start_paused = true)].
//! let options = Options {
//!     clock: Clock::starting_at("2026-01-01T00:00:00Z".parse()?),
//!     fake_nodes: FakeNodes::configured(10, "seed: 1\nrules:\n- ready: 30s\n  crashes: 0.1\n")?,
//!     ..Options::default()
//! };
//! let cluster = TestCluster::with(options).await?;
//! // Create a Deployment, watch it become available.
//! cluster.stop().await;
//! # Ok(())
//! # }
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use coracle_api::service::UserInfo;
use coracle_client::Client;
pub use coracle_clock::Clock;
use coracle_fake_node::{Config, Fleet, FleetOptions, NodeTemplate, Serving};
use coracle_informer::{CancellationToken, InformerFactory};
use coracle_scheduler::{Scheduler, SchedulerOptions};
use coracle_server::{ApiServer, PkiDir, RunningServer, ServerOptions};
use coracle_store::{Embedded, Store};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Why a cluster did not start, or a call to it failed.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What runs in a test cluster.
pub struct Options {
    pub clock: Clock,
    /// Whether the built-in controllers run.
    pub controllers: bool,
    pub scheduler: bool,
    /// Nodes on which pods run without containers; none by default.
    pub fake_nodes: FakeNodes,
    /// The memory engine by default.
    pub store: Option<Arc<dyn Store>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            controllers: true,
            scheduler: true,
            fake_nodes: FakeNodes::default(),
            store: None,
        }
    }
}

/// The fake nodes of a test cluster: `fake-0`, `fake-1`...
#[derive(Clone, Debug, Default)]
pub struct FakeNodes {
    pub count: u32,
    pub config: Config,
    pub template: NodeTemplate,
}

impl FakeNodes {
    /// So many nodes, with all defaults.
    pub fn new(count: u32) -> Self {
        Self {
            count,
            ..Self::default()
        }
    }

    /// So many nodes, with the text of a configuration.
    pub fn configured(count: u32, config: &str) -> Result<Self, Error> {
        Ok(Self {
            config: Config::parse(config)?,
            ..Self::new(count)
        })
    }
}

/// A running cluster. Stopped by [`stop`](Self::stop), or left to end with the test's runtime.
pub struct TestCluster {
    /// An administrator in this process.
    pub client: Client,
    pub clock: Clock,
    /// What the controllers have counted.
    pub metrics: coracle_controllers::Metrics,
    server: RunningServer,
    components: JoinSet<()>,
    shutdown: CancellationToken,
    dir: TempDir,
}

impl TestCluster {
    /// API server, controllers and scheduler.
    pub async fn start() -> Result<Self, Error> {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Result<Self, Error> {
        let dir = tempfile::tempdir()?;
        let clock = options.clock;
        let store: Arc<dyn Store> = match options.store {
            Some(store) => store,
            None => Arc::new(Embedded::in_memory()),
        };
        let mut server_options = ServerOptions::new(store, dir.path().join("pki"));
        server_options.clock = clock;
        let metrics = coracle_controllers::Metrics::default();
        let counted = metrics.clone();
        server_options
            .metrics
            .push(Arc::new(move |registry| counted.register(registry)));
        server_options.bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = ApiServer::start(server_options).await?;
        std::fs::write(dir.path().join("kubeconfig"), server.admin_kubeconfig())?;

        let shutdown = CancellationToken::new();
        let mut components = JoinSet::new();
        if options.controllers {
            let client = in_process(&server, "system:kube-controller-manager", &[]);
            let keys = coracle_controllers::keys::Keys {
                cluster_signing: Some(Arc::new(coracle_controllers::keys::SigningPair::new(
                    server.ca(),
                    server.ca_key(),
                ))),
                service_account: Some(Arc::new(coracle_controllers::keys::TokenKey::from_pkcs8(
                    &server.token_key(),
                )?)),
            };
            let cx = coracle_controllers::Context::new(client, clock, shutdown.clone(), server.ca())
                .with_keys(keys)
                .metered(metrics.clone());
            components.spawn(coracle_controllers::run(cx, |_| true));
        }
        if options.scheduler {
            let client = in_process(&server, "system:kube-scheduler", &[]);
            let informers = InformerFactory::new(client.clone(), clock, shutdown.clone());
            let scheduler = Scheduler::new(&client, clock, shutdown.clone(), SchedulerOptions::default());
            let stop = shutdown.clone();
            components.spawn(async move { scheduler.run(&informers, stop).await });
        }
        if options.fake_nodes.count > 0 {
            let fleet = start_fake_nodes(&server, dir.path(), clock, &shutdown, options.fake_nodes).await?;
            components.spawn(fleet.ended());
        }
        let client = in_process(&server, "kubernetes-admin", &["system:masters"]).named("testkit");
        Ok(Self {
            client,
            clock,
            metrics,
            server,
            components,
            shutdown,
            dir,
        })
    }

    /// A client with another identity.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        in_process(&self.server, user, groups)
    }

    /// A file that any client can use.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// `https://127.0.0.1:port`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Ends everything and waits for it.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        while self.components.join_next().await.is_some() {}
        self.server.shutdown().await;
    }
}

async fn start_fake_nodes(
    server: &RunningServer,
    dir: &std::path::Path,
    clock: Clock,
    shutdown: &CancellationToken,
    nodes: FakeNodes,
) -> Result<Fleet, Error> {
    let user = "system:coracle:fake-node";
    let pki = PkiDir::new(dir.join("pki"), clock);
    let localhost = Ipv4Addr::LOCALHOST;
    let pair = pki.serving("fake-node", user, &[], &[localhost.into()])?;
    let serving = Serving {
        listen: SocketAddr::from((localhost, 0)),
        certificate: pair.certificate.into_bytes(),
        key: pair.key.into_bytes(),
        client_ca: pki.authority()?.certificate().as_bytes().to_vec(),
        allowed_users: vec!["kube-apiserver-kubelet-client".into()],
    };
    let fleet = FleetOptions {
        clock,
        shutdown: shutdown.clone(),
        config: nodes.config,
        template: nodes.template,
        serving: Some(serving),
        ..FleetOptions::new(in_process(server, user, &[]), nodes.count)
    };
    Ok(Fleet::start(fleet).await?)
}

fn in_process(server: &RunningServer, user: &str, groups: &[&str]) -> Client {
    let service = server.service();
    let registry = service.registry();
    let user = UserInfo {
        name: user.to_owned(),
        groups: groups
            .iter()
            .chain(&["system:authenticated"])
            .map(|g| (*g).to_owned())
            .collect(),
        ..UserInfo::default()
    };
    Client::in_process(Arc::new(service), registry, user)
}
