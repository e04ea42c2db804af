//! `coracle status`: whether the cluster runs, where, and how it fares.

use anyhow::Context;
use coracle_client::{Client, Config, ListOptions};
use coracle_clock::Clock;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::target::block_on;
use crate::cli::Status;
use crate::cluster::Cluster;

pub fn run(args: &Status) -> anyhow::Result<()> {
    let cluster = Cluster::at(&args.place)?;
    if !cluster.dir.exists() {
        println!(
            "there is no cluster in {}; start one with `coracle up`",
            cluster.dir.display()
        );
        return Ok(());
    }
    let Some(pid) = cluster.running()? else {
        println!(
            "stopped; its objects are in {} (start it with `coracle up`)",
            cluster.dir.display()
        );
        return Ok(());
    };
    println!("running    process {pid}, {} resident", resident(pid.as_raw()));
    println!("directory  {}", cluster.dir.display());
    block_on(async {
        let config = Config::from_kubeconfig(&cluster.admin_kubeconfig(), None)?;
        println!("API        {}", config.server);
        let client = Client::connect(config, Clock::system())?;
        let nodes = client
            .all::<Node>()
            .list(&ListOptions::default())
            .await
            .context("the API server does not answer")?;
        for node in &nodes.items {
            let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
            let ready = conditions.into_iter().flatten().find(|c| c.type_ == "Ready");
            let state = match ready {
                Some(c) if c.status == "True" => "ready".to_owned(),
                Some(c) => format!("not ready: {}", c.message.as_deref().unwrap_or_default()),
                None => "not ready: it has not reported yet".to_owned(),
            };
            println!(
                "node       {} {state}",
                node.metadata.name.as_deref().unwrap_or_default()
            );
        }
        let pods = client.all::<Pod>().list(&ListOptions::default()).await?;
        let mut phases = std::collections::BTreeMap::<String, usize>::new();
        for pod in &pods.items {
            let phase = pod
                .status
                .as_ref()
                .and_then(|s| s.phase.clone())
                .unwrap_or_else(|| "Unknown".into());
            *phases.entry(phase).or_default() += 1;
        }
        let counted: Vec<String> = phases.iter().map(|(phase, n)| format!("{n} {phase}")).collect();
        println!(
            "pods       {}",
            if counted.is_empty() {
                "none".to_owned()
            } else {
                counted.join(", ")
            }
        );
        Ok(())
    })
}

/// The process's resident memory.
fn resident(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|v| v.trim().split(' ').next()?.parse::<u64>().ok());
    kib.map_or_else(|| "?".into(), |kib| format!("{} MiB", kib / 1024))
}
