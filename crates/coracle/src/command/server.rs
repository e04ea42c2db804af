//! `coracle server`: the API server, the controllers, the scheduler and a node, in the foreground. Each holds a client and
//! nothing of the others.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use coracle_api::service::UserInfo;
use coracle_client::Client;
use coracle_clock::Clock;
use coracle_informer::{CancellationToken, InformerFactory};
use coracle_node::{Agent, AgentOptions, Serving};
use coracle_scheduler::{Scheduler, SchedulerConfiguration, SchedulerOptions};
use coracle_server::{ApiServer, PkiDir, RunningServer, ServerOptions};
use coracle_store::{Embedded, EmbeddedOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::component;
use super::container::{self, NodeParts};
use crate::cli::{Server, Serving as ServingArgs};
use crate::cluster::{self, Cluster};
use crate::{image_service, preflight};

/// What a starting server tells `up`, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// Requests are served at this URL.
    Api(String),
    /// The node of this name is Ready.
    Node(String),
    /// All that was asked for is up.
    Ready,
}

impl fmt::Display for Milestone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(url) => write!(f, "api {url}"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Ready => f.write_str("ready"),
        }
    }
}

impl Milestone {
    pub fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            Some(("api", url)) => Some(Self::Api(url.into())),
            Some(("node", name)) => Some(Self::Node(name.into())),
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
    cluster.create()?;
    let held = cluster.hold()?;
    // A mistake in it should be told before anything runs.
    component::scheduler_configuration(args.serving.scheduler_config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(&cluster, &args.serving, args.detached));
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
        .init();
    Ok(())
}

async fn serve(cluster: &Cluster, args: &ServingArgs, detached: bool) -> anyhow::Result<()> {
    let clock = Clock::system();
    let shutdown = CancellationToken::new();
    let mut ended = ended()?;

    // The node's engine and network open while the API server starts; neither needs the other yet.
    let (server, node) = tokio::join!(start_api(cluster, args, clock), prepare_node(cluster, args));
    let (server, node) = (server?, node?);
    write_private(&cluster.admin_kubeconfig(), &server.admin_kubeconfig())?;
    Milestone::Api(server.url()).tell();

    let mut components = JoinSet::new();
    start_controllers(&server, clock, &shutdown, &mut components);
    let configuration = component::scheduler_configuration(args.scheduler_config.as_deref())?;
    start_scheduler(&server, clock, &shutdown, configuration, &mut components);
    if let Some(node) = node {
        let socket = image_service::serve(cluster, node.engine.clone(), shutdown.clone())?;
        components.spawn(socket);
        let agent = start_node(cluster, args, &server, node, clock, &shutdown).await?;
        Milestone::Node(agent.node_name().to_owned()).tell();
    }
    Milestone::Ready.tell();
    if detached {
        cluster::close_stdout().context("cannot let go of standard output")?;
    }

    ended.recv().await;
    tracing::info!("shutting down");
    shutdown.cancel();
    while components.join_next().await.is_some() {}
    server.shutdown().await;
    Ok(())
}

/// SIGTERM or SIGINT, whichever comes first.
fn ended() -> anyhow::Result<tokio::sync::mpsc::Receiver<()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        let _ = sender.send(()).await;
    });
    Ok(receiver)
}

async fn start_api(cluster: &Cluster, args: &ServingArgs, clock: Clock) -> anyhow::Result<RunningServer> {
    let store = Embedded::open(
        cluster.store_dir(),
        EmbeddedOptions {
            clock,
            ..EmbeddedOptions::default()
        },
    )
    .await
    .with_context(|| format!("cannot open the store in {}", cluster.store_dir().display()))?;
    let mut options = ServerOptions::new(Arc::new(store), cluster.pki_dir());
    options.clock = clock;
    options.bind = SocketAddr::new(args.bind_address, args.port);
    options.network.service_cidr = args.service_cidr.parse().map_err(anyhow::Error::msg)?;
    ApiServer::start(options).await.context("the API server does not start")
}

async fn prepare_node(cluster: &Cluster, args: &ServingArgs) -> anyhow::Result<Option<NodeParts>> {
    if args.no_node {
        return Ok(None);
    }
    container::open(cluster, &args.pod_cidr, args.oci_runtime.clone())
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

fn start_controllers(server: &RunningServer, clock: Clock, shutdown: &CancellationToken, components: &mut JoinSet<()>) {
    let client = client(server, "system:kube-controller-manager", &[]).named("kube-controller-manager");
    let cx = coracle_controllers::Context::new(client, clock, shutdown.clone(), server.ca());
    components.spawn(coracle_controllers::run(cx, |_| true));
}

fn start_scheduler(
    server: &RunningServer,
    clock: Clock,
    shutdown: &CancellationToken,
    configuration: SchedulerConfiguration,
    components: &mut JoinSet<()>,
) {
    let client = client(server, "system:kube-scheduler", &[]);
    let informers = InformerFactory::new(client.clone(), clock, shutdown.clone());
    let options = SchedulerOptions {
        configuration,
        ..SchedulerOptions::default()
    };
    let scheduler = Scheduler::new(&client, clock, shutdown.clone(), options);
    let shutdown = shutdown.clone();
    components.spawn(async move { scheduler.run(&informers, shutdown).await });
}

async fn start_node(
    cluster: &Cluster,
    args: &ServingArgs,
    server: &RunningServer,
    parts: NodeParts,
    clock: Clock,
    shutdown: &CancellationToken,
) -> anyhow::Result<Agent> {
    let name = node_name(args.node_name.as_deref());
    // On a machine by itself the node's address is the bridge's: host and pods reach it, and nobody else.
    let node_ip = if args.bind_address.is_loopback() {
        IpAddr::from(parts.network.gateway())
    } else {
        args.bind_address
    };
    let pki = PkiDir::new(cluster.pki_dir(), clock);
    let user = format!("system:node:{name}");
    let pair = pki.serving(
        "kubelet",
        &user,
        std::slice::from_ref(&name),
        &[node_ip, IpAddr::from([127, 0, 0, 1])],
    )?;
    let serving = Serving {
        listen: SocketAddr::new(node_ip, 0),
        certificate: pair.certificate.into_bytes(),
        key: pair.key.into_bytes(),
        client_ca: pki.authority()?.certificate().as_bytes().to_vec(),
        allowed_users: vec!["kube-apiserver-kubelet-client".into()],
    };
    let agent = Agent::start(AgentOptions {
        client: client(server, &user, &["system:nodes"]),
        runtime: Arc::new(parts.engine),
        pod_cidr: Some(parts.network.pod_cidr().to_string()),
        network: Arc::new(parts.network),
        clock,
        node_name: name,
        data_dir: cluster.node_dir(),
        node_ip: Some(node_ip),
        labels: Default::default(),
        taints: Vec::new(),
        cluster_dns: Vec::new(),
        cluster_domain: "cluster.local".into(),
        cgroup_root: container::cgroup_root(cluster),
        max_pods: 110,
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

/// A file that only its owner may read.
fn write_private(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milestones_are_read_as_they_were_written() {
        for milestone in [
            Milestone::Api("https://[::1]:1".into()),
            Milestone::Node("a.b".into()),
            Milestone::Ready,
        ] {
            assert_eq!(Milestone::parse(&milestone.to_string()), Some(milestone));
        }
        assert_eq!(Milestone::parse("something else"), None);
    }
}
