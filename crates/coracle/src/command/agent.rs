//! `coracle agent`: a node in the foreground that joins the server of a kubeconfig.

use anyhow::Context as _;
use coracle_client::{Client, Config};
use coracle_clock::Clock;
use coracle_informer::CancellationToken;
use coracle_node::{Agent, AgentOptions, Serving};

use super::server::{node_name, start_log};
use super::{container, node};
use crate::cluster::Cluster;
use crate::{cli, image_service, preflight};

pub fn run(args: cli::Agent) -> anyhow::Result<()> {
    start_log(&args.log)?;
    preflight::node()?;
    let settings = node::settings(&args.node)?;
    let cluster = Cluster::at(&args.place)?;
    cluster.create()?;
    let _held = cluster.hold()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let clock = Clock::system();
        let shutdown = CancellationToken::new();
        let mut ended = node::end()?;
        let config = Config::from_kubeconfig(&args.kubeconfig, None)?;
        let client_ca = config.certificate_authority.clone().context(
            "the kubeconfig names no certificate authority, by which the agent's own API would know the API server; \
             write one into it (certificate-authority-data)",
        )?;
        let client = Client::connect(config, clock)?;
        let name = node_name(args.node_name.as_deref());
        let node_ip = Some(args.listen.ip()).filter(|ip| !ip.is_unspecified());
        let certificates = cluster.node_dir().join("pki");
        let serving = Serving::self_signed(&certificates, &name, node_ip, args.listen, client_ca)?;
        let cidr = args.pod_cidr.as_deref().unwrap_or("10.42.1.0/24");
        let parts = container::open(&cluster, cidr, args.oci_runtime.clone(), &args.node, settings.logs).await?;
        let images = image_service::serve(&cluster, parts.runtime.clone(), shutdown.clone())?;
        tokio::spawn(images);
        let agent = Agent::start(AgentOptions {
            client,
            runtime: parts.runtime.clone(),
            pod_cidr: parts.pod_cidr(),
            network: parts.networking(),
            clock,
            node_name: name,
            data_dir: cluster.node_dir(),
            node_ip,
            labels: args.node.node_labels.iter().cloned().collect(),
            taints: Vec::new(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            cgroup_root: container::cgroup_root(&cluster),
            settings,
            serving: Some(serving),
            shutdown: shutdown.clone(),
        });
        let agent = tokio::select! {
            agent = agent => agent.context("the node does not start")?,
            // The API server may never have been reached.
            _ = ended.recv() => {
                shutdown.cancel();
                return Ok(());
            }
        };
        tracing::info!(node = agent.node_name(), "the node is ready");
        tokio::spawn(coracle_runtime::give_back_own_pages(clock));
        if let Some(end) = ended.recv().await {
            node::leave(&agent, end).await;
        }
        shutdown.cancel();
        Ok(())
    })
}
