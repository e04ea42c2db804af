//! What the binary has to do with containers: the hidden subcommands that the engine runs itself by, opening a cluster's
//! engine and network, and removing all of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use coracle_network::{Cidr, NetworkOptions, PodNetwork};
use coracle_runtime::{Engine, EngineConfig, PodRuntime, RegistryConfig};

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
    pub engine: Engine,
    pub network: PodNetwork,
}

pub fn cgroup_root(cluster: &Cluster) -> String {
    format!("/coracle-{}", cluster.id())
}

/// Opens the engine (which finds running pods again) and the pod network.
pub async fn open(cluster: &Cluster, pod_cidr: &str, oci_runtime: Option<PathBuf>) -> anyhow::Result<NodeParts> {
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
    config.registries = registries(cluster)?;
    let (engine, network) = tokio::join!(Engine::open(config), network);
    Ok(NodeParts {
        engine: engine.context("the container engine does not start")?,
        network: network.context("the pod network cannot be made")?,
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
        let engine = Engine::open(EngineConfig::new(cluster.runtime_dir())).await?;
        let removals = engine.sandboxes().await.into_iter().map(|sandbox| {
            let engine = engine.clone();
            async move { engine.remove_sandbox(&sandbox.id).await }
        });
        for result in futures::future::join_all(removals).await {
            result.context("a pod cannot be removed")?;
        }
        engine
            .remove_cgroup(&cgroup_root(cluster))
            .context("the cluster's control group cannot be removed")?;
        PodNetwork::teardown(&cluster.id(), &cluster.network_dir())
            .await
            .context("the pod network cannot be removed")
    })?;
    unmount_below(&cluster.dir)
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
