//! From bound to Running, as a watcher sees it: pods one after another, then many at once. The image is on the node.

use std::collections::HashMap;
use std::time::Duration;

use coracle_clock::{Clock, Instant};
use serde_json::{Value, json};

use crate::budget::at_most;
use crate::figure::Measured;
use crate::image;
use crate::latency::Latencies;
use crate::load::{Events, Prepared};
use crate::row::{Bench, Row};
use crate::scratch::{Scratch, name};
use crate::server::{Nodes, Server};
use crate::view;
use crate::workload::within;

pub const ROW: Row = Row {
    name: "pod-start",
    about: "bound → Running with the image present: 100 pods one after another, and 20 at once",
    budgets: &[
        ("bound → Running, one at a time, p50", at_most(100.0).peer_had(1000.0)),
        ("bound → Running, 20 at once, p99", at_most(1000.0)),
    ],
    run: |bench| Box::pin(run(bench)),
};

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let server = bench.serve(Nodes::Real).await?;
    let image = image::ready(bench, &server).await?;
    let scratch = Scratch::make(&server).await?;
    let mut measured = Measured::default();
    let (sequence, at_once) = (bench.options.pods, bench.options.pods.div_ceil(5));

    // What is done once (directories, caches) is the first pod's.
    start(&server, &scratch, &[pod("first", &image)]).await?;
    let meter = server.meter()?;
    let mut one_by_one = Vec::new();
    for n in 0..sequence {
        one_by_one.extend(start(&server, &scratch, &[pod(&name("one", n), &image)]).await?);
    }
    measured.latencies("bound → Running, one at a time", &Latencies::new(one_by_one));
    measured.load("pods one at a time", meter.stop()?.0);

    let meter = server.meter()?;
    let many: Vec<Value> = (0..at_once).map(|n| pod(&name("many", n), &image)).collect();
    let took = start(&server, &scratch, &many).await?;
    measured.latencies(&format!("bound → Running, {at_once} at once"), &Latencies::new(took));
    measured.load("pods at once", meter.stop()?.0);
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}

pub fn pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": image, "command": ["sleep", "100000"]}],
        },
    })
}

/// Creates pods, waits until all run, and deletes them. Says how long each took from being bound.
pub async fn start(server: &Server, scratch: &Scratch, pods: &[Value]) -> anyhow::Result<Vec<Duration>> {
    let path = scratch.path("pods");
    let mut events = Events::open(server.endpoint()?, &path, "").await?;
    let mut workers = server.workers(pods.len().min(16)).await?;
    let took = running(&mut events, pods.len());
    let creating = workers.send_all(pods.iter().map(|p| Prepared::post(&path, p)).collect());
    let (took, _) = tokio::try_join!(within("pods to run", took), creating)?;
    let names = pods.iter().filter_map(|p| p["metadata"]["name"].as_str());
    let deletes = names.map(|n| Prepared::delete(format!("{path}/{n}?gracePeriodSeconds=0")));
    workers.send_all(deletes.collect()).await?;
    Ok(took)
}

/// Waits until so many pods run.
pub async fn running(events: &mut Events, count: usize) -> anyhow::Result<Vec<Duration>> {
    let clock = Clock::system();
    let mut bound: HashMap<String, Instant> = HashMap::new();
    let mut took: HashMap<String, Duration> = HashMap::new();
    while took.len() < count {
        let pod = events.next::<view::Pod>().await?.object;
        // Others are those that are being deleted.
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let name = pod.metadata.name.clone();
        if pod.is_bound() {
            bound.entry(name.clone()).or_insert_with(|| clock.instant());
        }
        if pod.is_running()
            && let Some(since) = bound.get(&name)
        {
            took.entry(name).or_insert_with(|| since.elapsed());
        }
    }
    Ok(took.into_values().collect())
}
