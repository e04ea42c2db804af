//! From bound to Running, as a watcher sees it: one pod after another, then many at once.

use std::collections::HashMap;

use anyhow::Context;
use coracle_client::{Client, DeleteOptions, ListOptions, WatchEvent};
use coracle_clock::{Clock, Instant};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::measure::{Latencies, Scratch};
use crate::report::Report;

pub async fn run(client: &Client, image: &str, count: usize) -> anyhow::Result<Report> {
    let scratch = Scratch::make(client).await?;
    let mut report = Report::default();
    let mut one_by_one = Vec::new();
    for n in 0..count {
        one_by_one.extend(start(client, &scratch.name, image, &[format!("one-{n}")]).await?);
    }
    let latencies = Latencies::new(one_by_one);
    report.add("bound to Running, one at a time, p50", latencies.percentile(50.0), "ms");
    report.add("bound to Running, one at a time, p99", latencies.percentile(99.0), "ms");
    let names: Vec<String> = (0..count).map(|n| format!("many-{n}")).collect();
    let latencies = Latencies::new(start(client, &scratch.name, image, &names).await?);
    report.add(
        format!("bound to Running, {count} at once, p50"),
        latencies.percentile(50.0),
        "ms",
    );
    report.add(
        format!("bound to Running, {count} at once, p99"),
        latencies.percentile(99.0),
        "ms",
    );
    scratch.drop_namespace().await?;
    Ok(report)
}

async fn start(
    client: &Client,
    namespace: &str,
    image: &str,
    names: &[String],
) -> anyhow::Result<Vec<std::time::Duration>> {
    let clock = Clock::system();
    let pods = client.namespaced::<Pod>(namespace);
    let list = pods.list(&ListOptions::default()).await?;
    let options = ListOptions {
        resource_version: list.revision.to_string(),
        ..ListOptions::default()
    };
    let mut events = pods.watch(&options).await?;
    for name in names {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "image": image, "command": ["sleep", "100000"]}],
            },
        }))?;
        pods.create(&pod).await?;
    }
    let mut bound: HashMap<String, Instant> = HashMap::new();
    let mut took: HashMap<String, std::time::Duration> = HashMap::new();
    while took.len() < names.len() {
        let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) =
            events.next().await.context("the watch ended early")??
        else {
            continue;
        };
        let name = pod.metadata.name.clone().unwrap_or_default();
        if !names.contains(&name) {
            continue;
        }
        if pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_some() {
            bound.entry(name.clone()).or_insert_with(|| clock.instant());
        }
        if pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
            && let Some(since) = bound.get(&name)
        {
            took.entry(name).or_insert_with(|| since.elapsed());
        }
    }
    for name in names {
        let now = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        pods.delete(name, &now).await?;
    }
    Ok(took.into_values().collect())
}
