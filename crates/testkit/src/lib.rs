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

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use coracle_api::service::UserInfo;
use coracle_client::Client;
use coracle_clock::Clock;
use coracle_informer::{CancellationToken, InformerFactory};
use coracle_scheduler::{Scheduler, SchedulerOptions};
use coracle_server::{ApiServer, RunningServer, ServerOptions};
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
    /// The memory engine by default.
    pub store: Option<Arc<dyn Store>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            controllers: true,
            scheduler: true,
            store: None,
        }
    }
}

/// A running cluster. Stopped by [`stop`](Self::stop), or left to end with the test's runtime.
pub struct TestCluster {
    /// An administrator in this process.
    pub client: Client,
    pub clock: Clock,
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
                    server.token_key(),
                )?)),
            };
            let cx = coracle_controllers::Context::new(client, clock, shutdown.clone(), server.ca()).with_keys(keys);
            components.spawn(coracle_controllers::run(cx, |_| true));
        }
        if options.scheduler {
            let client = in_process(&server, "system:kube-scheduler", &[]);
            let informers = InformerFactory::new(client.clone(), clock, shutdown.clone());
            let scheduler = Scheduler::new(&client, clock, shutdown.clone(), SchedulerOptions::default());
            let stop = shutdown.clone();
            components.spawn(async move { scheduler.run(&informers, stop).await });
        }
        let client = in_process(&server, "kubernetes-admin", &["system:masters"]).named("testkit");
        Ok(Self {
            client,
            clock,
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
