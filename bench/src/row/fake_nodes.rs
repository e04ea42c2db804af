//! Many nodes and pods in one cluster, none of them real: what they cost at rest, how long a list of all pods takes, and a
//! rolling update. The server has its fake nodes already (`coracle up --fake-nodes N`).

use std::time::Duration;

use anyhow::{Context, bail};
use coracle_client::{Api, Client, ListOptions, Patch, WatchEvent};
use coracle_clock::Clock;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use crate::measure::Scratch;
use crate::process::usage;
use crate::report::Report;

/// The most pods of one of the Deployments that only fill the cluster.
const FILL: u32 = 10_000;
/// What nothing of this takes longer than.
const LIMIT: Duration = Duration::from_secs(1800);
/// After so long a cluster that was busy is at rest.
const SETTLE: Duration = Duration::from_secs(15);

pub async fn run(
    client: &Client,
    nodes: usize,
    pods: u32,
    rolling: u32,
    seconds: u64,
    pids: &[u32],
) -> anyhow::Result<Report> {
    let clock = Clock::system();
    let mut report = Report::default();
    nodes_ready(client, nodes).await?;
    let label = format!("{nodes} nodes, {pods} pods");
    memory(&mut report, &format!("{nodes} nodes, no pods, resident memory"), pids)?;

    let scratch = Scratch::make(client).await?;
    let deployments = client.namespaced::<Deployment>(&scratch.name);
    let rolling = rolling.min(pods);
    let mut sizes = vec![("rolling".to_owned(), rolling)];
    let mut left = pods - rolling;
    while left > 0 {
        let size = left.min(FILL);
        sizes.push((format!("fill-{}", sizes.len()), size));
        left -= size;
    }
    let started = clock.instant();
    for (name, size) in sizes.iter().filter(|(_, size)| *size > 0) {
        deployments.create(&deployment(name, *size)?).await?;
    }
    for (name, size) in sizes.iter().filter(|(_, size)| *size > 0) {
        rolled_out(clock, &deployments, name, *size).await?;
    }
    report.add(format!("{label}, all available"), started.elapsed().as_secs_f64(), "s");

    clock.sleep(SETTLE).await;
    if !pids.is_empty() {
        let before = usage(pids)?;
        clock.sleep(Duration::from_secs(seconds)).await;
        let used = usage(pids)?.cpu_seconds - before.cpu_seconds;
        report.add(
            format!("{label}, CPU at rest"),
            used / seconds.max(1) as f64 * 100.0,
            "% of a core",
        );
    }
    memory(&mut report, &format!("{label}, resident memory"), pids)?;
    list(client, &mut report, &label).await?;

    if rolling > 0 {
        let started = clock.instant();
        let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "demo/web:v2"}]}}}});
        deployments.patch("rolling", Patch::Strategic(image)).await?;
        rolled_out(clock, &deployments, "rolling", rolling).await?;
        report.add(
            format!("{label}, rolling update of {rolling} pods"),
            started.elapsed().as_secs_f64(),
            "s",
        );
        memory(&mut report, &format!("{label}, resident memory after the update"), pids)?;
    }
    scratch.drop_namespace().await?;
    Ok(report)
}

fn memory(report: &mut Report, what: &str, pids: &[u32]) -> anyhow::Result<()> {
    if !pids.is_empty() {
        report.add(what, usage(pids)?.resident_bytes as f64 / 1048576.0, "MiB");
    }
    Ok(())
}

async fn nodes_ready(client: &Client, wanted: usize) -> anyhow::Result<()> {
    let nodes = client.all::<Node>().list(&ListOptions::default()).await?.items;
    let ready = |n: &Node| {
        let conditions = n
            .status
            .as_ref()
            .and_then(|s| s.conditions.as_deref())
            .unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let found = nodes.iter().filter(|n| ready(n)).count();
    if found < wanted {
        bail!("there are {found} Ready nodes and not {wanted}; start the cluster with --fake-nodes {wanted}");
    }
    Ok(())
}

fn deployment(name: &str, replicas: u32) -> anyhow::Result<Deployment> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": LIMIT.as_secs(),
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "c", "image": "demo/web:v1", "ports": [{"containerPort": 8080}],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                }]},
            },
        },
    }))?)
}

/// Waits until every pod is of the newest template and available, and no other is left.
async fn rolled_out(clock: Clock, deployments: &Api<Deployment>, name: &str, replicas: u32) -> anyhow::Result<()> {
    let replicas = i32::try_from(replicas)?;
    let done = |d: &Deployment| {
        let Some(status) = &d.status else { return false };
        let all = [status.replicas, status.updated_replicas, status.available_replicas];
        status.observed_generation == d.metadata.generation && all.iter().all(|n| *n == Some(replicas))
    };
    let waiting = async {
        loop {
            let list = deployments.list(&ListOptions::default()).await?;
            let named = |d: &Deployment| d.metadata.name.as_deref() == Some(name);
            if list.items.iter().any(|d| named(d) && done(d)) {
                return anyhow::Ok(());
            }
            let options = ListOptions {
                resource_version: list.revision.to_string(),
                ..ListOptions::default()
            };
            let mut events = deployments.watch(&options).await?;
            while let Some(event) = events.next().await {
                match event {
                    Ok(WatchEvent::Added(d) | WatchEvent::Modified(d)) if named(&d) && done(&d) => return Ok(()),
                    Ok(_) => {}
                    // Ended or expired: from the list again.
                    Err(_) => break,
                }
            }
        }
    };
    clock
        .timeout(LIMIT, waiting)
        .await
        .with_context(|| format!("deployment {name} was not rolled out within {LIMIT:?}"))?
}

/// All pods of all namespaces, as `kubectl get pods -A` asks for them (in pages of 500), and in one piece: the best of three.
async fn list(client: &Client, report: &mut Report, label: &str) -> anyhow::Result<()> {
    let clock = Clock::system();
    for (limit, what) in [(500, "in pages of 500"), (0, "whole")] {
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let started = clock.instant();
            let mut options = ListOptions {
                limit,
                ..ListOptions::default()
            };
            loop {
                let page = client.all::<Pod>().list_stored(&options).await?;
                if page.continue_token.is_empty() {
                    break;
                }
                options.continue_token = page.continue_token;
            }
            best = best.min(started.elapsed());
        }
        report.add(
            format!("{label}, list of all pods, {what}"),
            best.as_secs_f64() * 1000.0,
            "ms",
        );
    }
    Ok(())
}
