//! `coracle server`: the API server, the controllers, the scheduler and a node, in the foreground. Each holds a client and
//! nothing of the others.

use std::fmt;
use std::future::Future;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use coracle_api::service::UserInfo;
use coracle_client::Client;
use coracle_client::leader::{LeaderConfig, LeaderElector};
use coracle_clock::Clock;
use coracle_controllers::keys::{Keys, SigningPair, TokenKey};
use coracle_informer::{CancellationToken, InformerFactory};
use coracle_node::{Agent, AgentOptions, Serving, Settings};
use coracle_runtime::LogLimits;
use coracle_scheduler::{Scheduler, SchedulerOptions};
use coracle_server::{AdmissionPlugins, ApiServer, PkiDir, RunningServer, ServerOptions};
use coracle_store::Store;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

use super::component::{self, identity};
use super::container::{self, NodeParts};
use super::fake_node::{self, Files};
use super::node;
use crate::cli::{Server, Serving as ServingArgs};
use crate::cluster::{self, Cluster, write_private};
use crate::renewals::{self, NodeNames};
use crate::{image_service, preflight, snapshots, store};

/// What a starting server tells `up`, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// Requests are served at this URL.
    Api(String),
    /// The node of this name is Ready.
    Node(String),
    /// So many fake nodes are Ready.
    FakeNodes(usize),
    /// All that was asked for is up.
    Ready,
}

impl fmt::Display for Milestone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(url) => write!(f, "api {url}"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::FakeNodes(count) => write!(f, "fake-nodes {count}"),
            Self::Ready => f.write_str("ready"),
        }
    }
}

impl Milestone {
    pub fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            Some(("api", url)) => Some(Self::Api(url.into())),
            Some(("node", name)) => Some(Self::Node(name.into())),
            Some(("fake-nodes", count)) => count.parse().ok().map(Self::FakeNodes),
            None if line == "ready" => Some(Self::Ready),
            _ => None,
        }
    }

    fn tell(&self) {
        let mut out = std::io::stdout().lock();
        // Nobody may be reading any more.
        let _ = writeln!(out, "{self}").and_then(|()| out.flush());
    }
}

pub fn run(args: Server) -> anyhow::Result<()> {
    if args.detached {
        nix::unistd::setsid().context("cannot leave the terminal's session")?;
    }
    start_log(&args.serving.log)?;
    let cluster = Cluster::at(&args.place)?;
    if !args.serving.no_node {
        preflight::node()?;
    }
    let fake = Files::read(&args.serving.fake)?;
    cluster.create()?;
    let held = cluster.hold()?;
    // A mistake in these should be told before anything runs.
    let settings = node::settings(&args.serving.node)?;
    component::scheduler_configuration(args.serving.scheduler_config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(&cluster, &args.serving, settings, fake, args.detached));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    drop(held);
    result
}

/// Log lines go to standard error.
pub fn start_log(filter: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("{filter:?} is no log filter; use error, warn, info, debug or trace"))?;
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        // A line that cannot be written, as on a full disk, is lost. To say so on standard error would be a panic.
        .log_internal_errors(false)
        .init();
    Ok(())
}

/// What the components beside the API server count.
#[derive(Clone, Default)]
struct Metrics {
    controllers: coracle_controllers::Metrics,
    scheduler: coracle_scheduler::Metrics,
}

impl Metrics {
    fn register(&self, registry: &mut Registry) {
        self.controllers.register(registry);
        self.scheduler.register(registry);
    }
}

async fn serve(
    cluster: &Cluster,
    args: &ServingArgs,
    settings: Settings,
    fake: Files,
    detached: bool,
) -> anyhow::Result<()> {
    let clock = Clock::system();
    let shutdown = CancellationToken::new();
    let mut ended = node::end()?;
    let mut agent = None;
    let metrics = Metrics::default();

    // The node's engine and network open while the API server starts; neither needs the other yet.
    let (server, node) = tokio::join!(
        start_api(cluster, args, &metrics, clock),
        prepare_node(cluster, args, settings.logs)
    );
    let ((server, store), node) = (server?, node?);
    write_private(&cluster.admin_kubeconfig(), &server.admin_kubeconfig())?;
    Milestone::Api(server.url()).tell();

    let mut components = JoinSet::new();
    let token_key = Arc::new(TokenKey::from_pkcs8(&server.token_key())?);
    components.spawn(renewals::follow(
        server.credentials(),
        cluster.clone(),
        token_key.clone(),
        shutdown.clone(),
    ));
    start_snapshots(cluster, args, store, clock, &shutdown, &mut components)?;
    let shared = !args.store.store.is_empty();
    start_controllers(
        &server,
        shared,
        token_key,
        &metrics.controllers,
        clock,
        &shutdown,
        &mut components,
    );
    let scheduling = SchedulerOptions {
        configuration: component::scheduler_configuration(args.scheduler_config.as_deref())?,
        metrics: metrics.scheduler,
        ..SchedulerOptions::default()
    };
    start_scheduler(&server, shared, clock, &shutdown, scheduling, &mut components);
    if let Some(node) = node {
        let socket = image_service::serve(cluster, node.runtime.clone(), shutdown.clone())?;
        components.spawn(socket);
        let started = start_node(cluster, args, settings, &server, node, clock, &shutdown).await?;
        Milestone::Node(started.node_name().to_owned()).tell();
        agent = Some(started);
    }
    if args.fake.fake_nodes > 0 {
        let client = client(&server, fake_node::USER, &[]).named("fake-node");
        let pki = PkiDir::new(cluster.pki_dir(), clock);
        let fleet = fake_node::start(
            args.fake.fake_nodes,
            fake,
            client,
            &pki,
            clock,
            &shutdown,
            &metrics.controllers.work,
        )
        .await?;
        Milestone::FakeNodes(fleet.nodes()).tell();
        components.spawn(fleet.ended());
    }
    Milestone::Ready.tell();
    tokio::spawn(coracle_runtime::give_back_own_pages(clock));
    if detached {
        cluster::close_stdout().context("cannot let go of standard output")?;
    }

    if let (Some(end), Some(agent)) = (ended.recv().await, &agent) {
        node::leave(agent, end).await;
    }
    tracing::info!("shutting down");
    shutdown.cancel();
    while components.join_next().await.is_some() {}
    server.shutdown().await;
    Ok(())
}

async fn start_api(
    cluster: &Cluster,
    args: &ServingArgs,
    metrics: &Metrics,
    clock: Clock,
) -> anyhow::Result<(RunningServer, Arc<dyn Store>)> {
    let store = store::open(cluster, &args.store, clock).await?;
    let mut options = ServerOptions::new(store.clone(), cluster.pki_dir());
    options.clock = clock;
    options.bind = SocketAddr::new(args.bind_address, args.port);
    let metrics = metrics.clone();
    let register = move |registry: &mut Registry| metrics.register(registry);
    options.metrics.push(Arc::new(register));
    options.network.service_cidr = args.service_cidr.parse().map_err(anyhow::Error::msg)?;
    options.admission = AdmissionPlugins {
        enable: args.enable_admission_plugins.clone(),
        disable: args.disable_admission_plugins.clone(),
        ..AdmissionPlugins::default()
    };
    if let Some(path) = &args.admission_control_config_file {
        options.admission.configure(path).map_err(anyhow::Error::msg)?;
    }
    options.token_file.clone_from(&args.token_auth_file);
    let server = ApiServer::start(options)
        .await
        .context("the API server does not start")?;
    Ok((server, store))
}

/// What saves the store's contents: when asked, and now and then.
fn start_snapshots(
    cluster: &Cluster,
    args: &ServingArgs,
    store: Arc<dyn Store>,
    clock: Clock,
    shutdown: &CancellationToken,
    components: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    components.spawn(snapshots::serve(cluster, store.clone(), clock, shutdown.clone())?);
    // etcd has its own.
    if args.store.store.is_empty() && !args.snapshot_every.is_zero() && args.snapshot_keep > 0 {
        components.spawn(snapshots::automatic(
            cluster.snapshot_dir(),
            store,
            clock,
            args.snapshot_every,
            args.snapshot_keep,
            shutdown.clone(),
        ));
    }
    Ok(())
}

async fn prepare_node(cluster: &Cluster, args: &ServingArgs, logs: LogLimits) -> anyhow::Result<Option<NodeParts>> {
    if args.no_node {
        return Ok(None);
    }
    container::open(cluster, &args.pod_cidr, args.oci_runtime.clone(), &args.node, logs)
        .await
        .map(Some)
}

/// A client in this process, with an identity of its own.
fn client(server: &RunningServer, name: &str, groups: &[&str]) -> Client {
    let groups = groups
        .iter()
        .chain(&["system:authenticated"])
        .map(|g| (*g).to_owned())
        .collect();
    let user = UserInfo {
        name: name.to_owned(),
        groups,
        ..UserInfo::default()
    };
    let service = server.service();
    let registry = service.registry();
    Client::in_process(Arc::new(service), registry, user)
}

/// Runs a component until shutdown; where several servers share a store, only while it holds the Lease of its name. A
/// component that has lost its Lease is dropped and waits for its next turn.
fn run_elected<F, Fut>(
    client: &Client,
    name: &'static str,
    shared: bool,
    clock: Clock,
    shutdown: &CancellationToken,
    components: &mut JoinSet<()>,
    work: F,
) where
    F: Fn(CancellationToken) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let shutdown = shutdown.clone();
    if !shared {
        components.spawn(async move { work(shutdown).await });
        return;
    }
    let client = client.clone();
    components.spawn(async move {
        while !shutdown.is_cancelled() {
            let config = LeaderConfig::new("kube-system", name, &identity());
            let elector = LeaderElector::new(client.clone(), config, clock);
            elector.run(shutdown.clone(), &work).await;
        }
    });
}

fn start_controllers(
    server: &RunningServer,
    shared: bool,
    token_key: Arc<TokenKey>,
    metrics: &coracle_controllers::Metrics,
    clock: Clock,
    shutdown: &CancellationToken,
    components: &mut JoinSet<()>,
) {
    let client = client(server, "system:kube-controller-manager", &[]).named("kube-controller-manager");
    let keys = Keys {
        cluster_signing: Some(Arc::new(SigningPair::new(server.ca(), server.ca_key()))),
        service_account: Some(token_key),
    };
    let (manager, ca, metrics) = (client.clone(), server.ca().to_owned(), metrics.clone());
    let work = move |led: CancellationToken| {
        let cx = coracle_controllers::Context::new(manager.clone(), clock, led, &ca)
            .with_keys(keys.clone())
            .metered(metrics.clone());
        coracle_controllers::run(cx, |_| true)
    };
    run_elected(
        &client,
        "kube-controller-manager",
        shared,
        clock,
        shutdown,
        components,
        work,
    );
}

fn start_scheduler(
    server: &RunningServer,
    shared: bool,
    clock: Clock,
    shutdown: &CancellationToken,
    scheduling: SchedulerOptions,
    components: &mut JoinSet<()>,
) {
    let client = client(server, "system:kube-scheduler", &[]);
    let own = client.clone();
    let work = move |led: CancellationToken| {
        let informers = InformerFactory::new(own.clone(), clock, led.clone());
        let scheduler = Scheduler::new(&own, clock, led.clone(), scheduling.clone());
        async move { scheduler.run(&informers, led).await }
    };
    run_elected(&client, "kube-scheduler", shared, clock, shutdown, components, work);
}

async fn start_node(
    cluster: &Cluster,
    args: &ServingArgs,
    settings: Settings,
    server: &RunningServer,
    parts: NodeParts,
    clock: Clock,
    shutdown: &CancellationToken,
) -> anyhow::Result<Agent> {
    let name = node_name(args.node_name.as_deref());
    // On a machine by itself the node's address is the bridge's: host and pods reach it, and nobody else.
    let node_ip = match &parts.network {
        _ if !args.bind_address.is_loopback() => args.bind_address,
        Some(network) => IpAddr::from(network.gateway()),
        None => coracle_node::own_address(),
    };
    let pki = PkiDir::new(cluster.pki_dir(), clock);
    let user = format!("system:node:{name}");
    let names = NodeNames {
        user: user.clone(),
        name: name.clone(),
        addresses: vec![node_ip, IpAddr::from([127, 0, 0, 1])],
    };
    let first = renewals::of_pair(names.certificate(&pki)?);
    let (current, renewed) = tokio::sync::watch::channel(first.clone());
    let serving = Serving {
        listen: SocketAddr::new(node_ip, 0),
        certificate: first.certificate,
        key: first.key,
        client_ca: pki.authority()?.certificate().as_bytes().to_vec(),
        self_signed: false,
        renewals: Some(renewed),
    };
    tokio::spawn(renewals::keep_node_certificate(
        pki,
        names,
        current,
        clock,
        shutdown.clone(),
    ));
    let agent = Agent::start(AgentOptions {
        client: client(server, &user, &["system:nodes"]),
        runtime: parts.runtime.clone(),
        pod_cidr: parts.pod_cidr(),
        network: parts.networking(),
        clock,
        node_name: name,
        data_dir: cluster.node_dir(),
        node_ip: Some(node_ip),
        labels: args.node.node_labels.iter().cloned().collect(),
        taints: Vec::new(),
        cluster_dns: Vec::new(),
        cluster_domain: "cluster.local".into(),
        cgroup_root: container::cgroup_root(cluster),
        settings,
        serving: Some(serving),
        shutdown: shutdown.clone(),
    });
    agent.await.context("the node does not start")
}

/// The name given, or the machine's host name as a DNS name.
pub fn node_name(given: Option<&str>) -> String {
    if let Some(name) = given {
        return name.to_owned();
    }
    let host = nix::unistd::gethostname()
        .map(|h| h.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let name: String = host
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        .collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milestones_are_read_as_they_were_written() {
        for milestone in [
            Milestone::Api("https://[::1]:1".into()),
            Milestone::Node("a.b".into()),
            Milestone::FakeNodes(1000),
            Milestone::Ready,
        ] {
            assert_eq!(Milestone::parse(&milestone.to_string()), Some(milestone));
        }
        assert_eq!(Milestone::parse("something else"), None);
    }
}
