//! Watchers that each see every write of one writer.

use std::time::Duration;

use anyhow::Context;
use coracle_client::{Client, ListOptions, Patch};
use coracle_clock::Clock;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use crate::measure::{Latencies, Scratch};
use crate::process::usage;
use crate::report::Report;

pub async fn run(client: &Client, watchers: usize, rate: u32, writes: usize, pids: &[u32]) -> anyhow::Result<Report> {
    let clock = Clock::system();
    let scratch = Scratch::make(client).await?;
    let maps = client.namespaced::<ConfigMap>(&scratch.name);
    let mut map = ConfigMap::default();
    map.metadata.name = Some("ticker".into());
    map.metadata.labels = Some([("bench".to_owned(), "ticker".to_owned())].into());
    let made = maps.create(&map).await?;
    let from = made.metadata.resource_version.clone().unwrap_or_default();

    let mut tasks = tokio::task::JoinSet::new();
    let ready = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    for _ in 0..watchers {
        let (maps, from, ready) = (maps.clone(), from.clone(), ready.clone());
        tasks.spawn(async move {
            let options = ListOptions {
                resource_version: from,
                label_selector: "bench=ticker".into(),
                ..ListOptions::default()
            };
            let mut events = Box::pin(maps.watch_stored(&options).await?);
            ready.add_permits(1);
            let mut seen = Vec::with_capacity(writes);
            while seen.len() < writes {
                events.next().await.context("a watch ended early")??;
                seen.push(clock.instant());
            }
            anyhow::Ok(seen)
        });
    }
    drop(ready.acquire_many(u32::try_from(watchers)?).await?);
    let before = usage(pids)?;
    let mut sent = Vec::with_capacity(writes);
    let pause = Duration::from_secs_f64(1.0 / f64::from(rate.max(1)));
    let mut due = clock.instant();
    for n in 0..writes {
        sent.push(clock.instant());
        maps.patch("ticker", Patch::Merge(json!({"data": {"n": n.to_string()}})))
            .await?;
        due += pause;
        clock.sleep_until(due).await;
    }
    let mut all = Vec::with_capacity(watchers * writes);
    while let Some(seen) = tasks.join_next().await {
        for (sent, seen) in sent.iter().zip(seen??) {
            all.push(seen.saturating_duration_since(*sent));
        }
    }
    let after = usage(pids)?;
    scratch.drop_namespace().await?;

    let latencies = Latencies::new(all);
    let mut report = Report::default();
    report.add(
        format!("{watchers} watchers, events delivered"),
        latencies.len() as f64,
        "",
    );
    report.add(
        format!("{watchers} watchers, write to delivery, p50"),
        latencies.percentile(50.0),
        "ms",
    );
    report.add(
        format!("{watchers} watchers, write to delivery, p99"),
        latencies.percentile(99.0),
        "ms",
    );
    if !pids.is_empty() {
        report.add(
            format!("{watchers} watchers, server CPU"),
            after.cpu_seconds - before.cpu_seconds,
            "s",
        );
    }
    Ok(report)
}
