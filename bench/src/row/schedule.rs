//! Pods scheduled in a second, on clusters of 100, 1,000 and 5,000 nodes: plain ones, ones that must spread over zones, ones
//! that must be apart, and ones that must evict others. The nodes are objects and no more: nothing runs on them, so that
//! what is measured is the scheduler, the API server and its store. From the first pod created until the last one bound,
//! as upstream's `scheduler_perf` measures.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use coracle_client::{Client, DeleteOptions, ListOptions, WatchEvent};
use coracle_clock::Clock;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::{Value, json};

use crate::measure::{Scratch, spread};
use crate::report::Report;

/// The label of the nodes of a run.
const LABEL: &str = "bench.coracle.io/run";
const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";
const ZONES: usize = 3;
/// What none of these takes longer than.
const LIMIT: Duration = Duration::from_secs(900);

#[derive(Debug, Args)]
pub struct Schedule {
    /// How many nodes, one size after another. The cluster must have none of its own
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000, 5000])]
    nodes: Vec<usize>,
    /// How many pods are scheduled; of those that must be apart or evict others, no more than there are nodes
    #[arg(long, default_value_t = 2000)]
    pods: usize,
    #[arg(long, value_delimiter = ',', default_values_t = Kind::value_variants().to_vec(), value_enum)]
    kinds: Vec<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// No wishes but CPU and memory
    Plain,
    /// Over zones, differing by no more than one
    Spread,
    /// No two on one node
    AntiAffinity,
    /// On full nodes: each evicts a pod of lower priority
    Preemption,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Spread => "spread",
            Self::AntiAffinity => "anti-affinity",
            Self::Preemption => "preemption",
        })
    }
}

impl Kind {
    fn spec(self) -> Value {
        let measured = json!({"matchLabels": {"app": "measured"}});
        match self {
            Self::Plain => json!({}),
            Self::Spread => json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": ZONE,
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": measured}]}),
            Self::AntiAffinity => json!({"affinity": {"podAntiAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": HOST, "labelSelector": measured}]}}}),
            Self::Preemption => json!({}),
        }
    }

    /// How many of so many pods can have a place.
    fn limit(self, pods: usize, nodes: usize) -> usize {
        match self {
            Self::Plain | Self::Spread => pods.min(nodes * 20),
            Self::AntiAffinity | Self::Preemption => pods.min(nodes),
        }
    }
}

pub async fn run(client: &Client, workers: usize, args: &Schedule) -> anyhow::Result<Report> {
    let found = client.all::<Node>().list(&ListOptions::default()).await?.items.len();
    if found > 0 {
        bail!("the cluster has {found} nodes of its own; measure one without (coracle up --no-node)");
    }
    let mut report = Report::default();
    for &nodes in &args.nodes {
        for &kind in &args.kinds {
            let scratch = Scratch::make(client).await?;
            let measured = one(client, workers, &scratch.name, nodes, kind, args.pods, &mut report).await;
            clean_up(client, &scratch.name).await?;
            scratch.drop_namespace().await?;
            measured?;
        }
    }
    Ok(report)
}

async fn one(
    client: &Client,
    workers: usize,
    run: &str,
    nodes: usize,
    kind: Kind,
    pods: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (make, name) = (client.clone(), run.to_owned());
    spread(workers, nodes, move |i| {
        let (client, run) = (make.clone(), name.clone());
        async move {
            client
                .all::<Node>()
                .create(&node(&run, i)?)
                .await
                .map(drop)
                .map_err(Into::into)
        }
    })
    .await?;
    let classes = client.all::<PriorityClass>();
    let class: PriorityClass = serde_json::from_value(json!({"metadata": {"name": run}, "value": 1000}))?;
    classes.create(&class).await?;
    if kind == Kind::Preemption {
        // A pod that leaves no room for another on every node.
        schedule(client, workers, run, nodes, "filler", filler()).await?;
    }
    let count = kind.limit(pods, nodes);
    let mut spec = kind.spec();
    if kind == Kind::Preemption {
        spec = filler();
        spec["priorityClassName"] = run.into();
    }
    let took = schedule(client, workers, run, count, "measured", spec).await?;
    let (took, slowest) = (took.0.as_secs_f64(), took.1.as_secs_f64());
    let what = format!("{count} pods, {kind}, on {nodes} nodes");
    report.add(format!("{what}, scheduled"), count as f64 / took, "/s");
    report.add(format!("{what}, all created"), slowest, "s");
    Ok(())
}

fn filler() -> Value {
    json!({"containers": [{"name": "c", "image": "demo/web:v1", "resources": {"requests": {"cpu": "3", "memory": "1Gi"}}}]})
}

/// A node as upstream's benchmark has them.
fn node(run: &str, number: usize) -> anyhow::Result<Node> {
    let name = format!("{run}-{number}");
    let room = json!({"cpu": "4", "memory": "32Gi", "pods": "110"});
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {LABEL: run, HOST: name, ZONE: format!("zone-{}", number % ZONES)}},
        "status": {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]},
    }))?)
}

fn pod(app: &str, number: usize, spec: &Value) -> anyhow::Result<Pod> {
    let mut pod = json!({
        "metadata": {"name": format!("{app}-{number}"), "labels": {"app": app}},
        "spec": {
            // No agent would end it.
            "terminationGracePeriodSeconds": 0,
            // Nor renew its node's lease.
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": "demo/web:v1",
                "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}],
        },
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    Ok(serde_json::from_value(pod)?)
}

/// Creates so many pods and waits until all are bound: how long that took, and how long creating them did.
async fn schedule(
    client: &Client,
    workers: usize,
    namespace: &str,
    count: usize,
    app: &'static str,
    spec: Value,
) -> anyhow::Result<(Duration, Duration)> {
    let clock = Clock::system();
    let pods = client.namespaced::<Pod>(namespace);
    let revision = pods.list(&ListOptions::default()).await?.revision;
    let options = ListOptions {
        resource_version: revision.to_string(),
        label_selector: format!("app={app}"),
        ..ListOptions::default()
    };
    let mut events = pods.watch(&options).await?;
    let started = clock.instant();
    let made = pods.clone();
    let creating = tokio::spawn(spread(workers, count, move |i| {
        let (pods, pod) = (made.clone(), pod(app, i, &spec));
        async move { pods.create(&pod?).await.map(drop).map_err(Into::into) }
    }));
    let mut bound = HashSet::new();
    let all_bound = async {
        while bound.len() < count {
            match events.next().await.context("the watch ended early")?? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod)
                    if pod.spec.as_ref().is_some_and(|s| s.node_name.is_some()) =>
                {
                    bound.insert(pod.metadata.uid.clone());
                }
                _ => {}
            }
        }
        anyhow::Ok(started.elapsed())
    };
    let took = clock.timeout(LIMIT, all_bound).await;
    let took = took.with_context(|| format!("{count} pods were not scheduled within {LIMIT:?}"))??;
    let (created, _) = creating.await??;
    Ok((took, created))
}

async fn clean_up(client: &Client, run: &str) -> anyhow::Result<()> {
    let everything = ListOptions::default();
    let delete = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    client
        .namespaced::<Pod>(run)
        .delete_collection(&everything, &delete)
        .await?;
    let own = ListOptions {
        label_selector: format!("{LABEL}={run}"),
        ..ListOptions::default()
    };
    client.all::<Node>().delete_collection(&own, &delete).await?;
    client.all::<PriorityClass>().delete(run, &delete).await?;
    Ok(())
}
