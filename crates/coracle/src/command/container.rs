//! What the binary has to do with containers: the hidden subcommands that the engine runs itself by, opening a cluster's
//! engine and network, and removing all of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use coracle_clock::Clock;
use coracle_network::{Cidr, NetworkOptions, PodNetwork};
use coracle_node::{PodNetworking, RuntimeNetworking};
use coracle_runtime::{Cri, CriConfig, Engine, EngineConfig, LogLimits, PodRuntime, RegistryConfig};

use crate::cli::NodeFlags;
use crate::cluster::Cluster;

/// `shim` and `oci`, which the engine runs; `None` when the arguments ask for something else.
pub fn dispatch(arguments: &[OsString]) -> Option<ExitCode> {
    let rest = arguments.iter().skip(2).cloned();
    match arguments.get(1)?.to_str()? {
        "shim" => coracle_runtime::shim_main(rest),
        "oci" => {
            let code = coracle_runtime::oci_main(rest);
            Some(ExitCode::from(u8::try_from(code).unwrap_or(1)))
        }
        _ => None,
    }
}

/// What a node runs pods with.
pub struct NodeParts {
    pub runtime: Arc<dyn PodRuntime>,
    /// None where the runtime makes it.
    pub network: Option<PodNetwork>,
}

impl NodeParts {
    /// The node's share of the pod range, where this program gives the addresses.
    pub fn pod_cidr(&self) -> Option<String> {
        self.network.as_ref().map(|network| network.pod_cidr().to_string())
    }

    pub fn networking(self) -> Arc<dyn PodNetworking> {
        match self.network {
            Some(network) => Arc::new(network),
            None => Arc::new(RuntimeNetworking),
        }
    }
}

pub fn cgroup_root(cluster: &Cluster) -> String {
    format!("/coracle-{}", cluster.id())
}

/// Opens what runs pods (which finds running ones again) and the pod network.
pub async fn open(
    cluster: &Cluster,
    pod_cidr: &str,
    oci_runtime: Option<PathBuf>,
    flags: &NodeFlags,
    logs: LogLimits,
) -> anyhow::Result<NodeParts> {
    match (&flags.cri_socket, other_runtime(cluster)?) {
        (Some(socket), _) => open_cri(cluster, socket, logs).await,
        (None, None) => open_engine(cluster, pod_cidr, oci_runtime, flags, logs).await,
        (None, Some(socket)) => bail!(
            "this cluster's pods are run by {0}; start it with --cri-socket {0}",
            socket.display()
        ),
    }
}

/// What has the cluster's images, of a cluster that does not run.
pub async fn open_for_images(cluster: &Cluster) -> anyhow::Result<Arc<dyn PodRuntime>> {
    if let Some(socket) = other_runtime(cluster)? {
        return Ok(Arc::new(connect(cluster, &socket, LogLimits::default()).await?));
    }
    let mut config = EngineConfig::new(cluster.runtime_dir());
    config.registries = registries(cluster)?;
    Ok(Arc::new(Engine::open(config).await?))
}

/// The file with the socket of the runtime that runs this cluster's pods, where that is not the built-in engine.
fn socket_file(cluster: &Cluster) -> PathBuf {
    cluster.runtime_dir().join("cri-socket")
}

fn other_runtime(cluster: &Cluster) -> anyhow::Result<Option<PathBuf>> {
    let file = socket_file(cluster);
    match std::fs::read_to_string(&file) {
        Ok(path) => Ok(Some(path.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

async fn connect(cluster: &Cluster, socket: &std::path::Path, logs: LogLimits) -> anyhow::Result<Cri> {
    let config = CriConfig {
        socket: socket.to_owned(),
        owner: cluster.id(),
        logs,
        clock: Clock::system(),
    };
    Ok(Cri::open(config).await?)
}

async fn open_cri(cluster: &Cluster, socket: &std::path::Path, logs: LogLimits) -> anyhow::Result<NodeParts> {
    let sandboxes = std::fs::read_dir(cluster.runtime_dir().join("sandboxes"));
    if sandboxes.is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("this cluster has pods of the built-in engine; start it without --cri-socket and delete them first");
    }
    let socket = std::path::absolute(socket)?;
    let runtime = connect(cluster, &socket, logs).await?;
    let file = socket_file(cluster);
    std::fs::create_dir_all(cluster.runtime_dir())
        .and_then(|()| std::fs::write(&file, socket.as_os_str().as_encoded_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(NodeParts {
        runtime: Arc::new(runtime),
        network: None,
    })
}

async fn open_engine(
    cluster: &Cluster,
    pod_cidr: &str,
    oci_runtime: Option<PathBuf>,
    flags: &NodeFlags,
    logs: LogLimits,
) -> anyhow::Result<NodeParts> {
    let wanted: Cidr = pod_cidr
        .parse()
        .map_err(|e| anyhow::anyhow!("--pod-cidr {pod_cidr:?}: {e}; write it like 10.42.0.0/24"))?;
    let network = async {
        let range = coracle_network::free_cidr(&cluster.id(), wanted, &[]).await?;
        let options = NetworkOptions {
            cluster_id: cluster.id(),
            pod_cidr: range,
            cluster_cidr: range,
            data_dir: cluster.network_dir(),
        };
        anyhow::Ok(PodNetwork::open(options).await?)
    };
    let mut config = EngineConfig::new(cluster.runtime_dir());
    config.oci_runtime = oci_runtime;
    let handlers = flags.runtime_handler.iter();
    config.handlers = handlers.map(|(name, path)| (name.clone(), path.into())).collect();
    config.logs = logs;
    config.registries = registries(cluster)?;
    let (engine, network) = tokio::join!(Engine::open(config), network);
    Ok(NodeParts {
        runtime: Arc::new(engine.context("the container engine does not start")?),
        network: Some(network.context("the pod network cannot be made")?),
    })
}

/// What the administrator says about registries, in the cluster's directory or for the whole machine.
pub fn registries(cluster: &Cluster) -> anyhow::Result<RegistryConfig> {
    let places = [
        cluster.dir.join("registries.yaml"),
        "/etc/coracle/registries.yaml".into(),
    ];
    let Some(path) = places.iter().find(|path| path.is_file()) else {
        return Ok(RegistryConfig::default());
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let document: serde_json::Value =
        serde_saphyr::from_str(&text).with_context(|| format!("{} is not YAML", path.display()))?;
    RegistryConfig::from_document(document).with_context(|| format!("{} cannot be used", path.display()))
}

/// Ends every pod of a cluster that has no server, and takes back its network.
pub fn remove_all(cluster: &Cluster) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if let Some(socket) = other_runtime(cluster)? {
            let runtime = connect(cluster, &socket, LogLimits::default()).await?;
            remove_pods(&runtime).await?;
            // With its pods gone, any runtime may run the next.
            let file = socket_file(cluster);
            std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
        let engine = Engine::open(EngineConfig::new(cluster.runtime_dir())).await?;
        remove_pods(&engine).await?;
        engine
            .remove_cgroup(&cgroup_root(cluster))
            .context("the cluster's control group cannot be removed")?;
        PodNetwork::teardown(&cluster.id(), &cluster.network_dir())
            .await
            .context("the pod network cannot be removed")
    })?;
    unmount_below(&cluster.dir)
}

async fn remove_pods(runtime: &dyn PodRuntime) -> anyhow::Result<()> {
    let sandboxes = runtime.sandboxes().await;
    let removals = sandboxes.iter().map(|sandbox| runtime.remove_sandbox(&sandbox.id));
    for result in futures::future::join_all(removals).await {
        result.context("a pod cannot be removed")?;
    }
    Ok(())
}

/// Volumes that were still mounted (tmpfs of emptyDirs and secrets).
fn unmount_below(dir: &std::path::Path) -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let below = mounts
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .filter(|at| std::path::Path::new(at).starts_with(dir));
    for at in below.collect::<Vec<_>>().into_iter().rev() {
        nix::mount::umount2(at, nix::mount::MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {at}"))?;
    }
    Ok(())
}
