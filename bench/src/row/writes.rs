//! Creating, changing and deleting ConfigMaps and Pods, each acknowledged only when it is durable.

use serde_json::json;

use crate::budget::{Budget, times};
use crate::figure::Measured;
use crate::load::{Prepared, Workers};
use crate::row::{Bench, Row};
use crate::scratch::{Scratch, config_map, idle_pod, name};
use crate::server::{Nodes, Server};

pub const CREATE: Row = Row {
    name: "create",
    about: "durable creates of ConfigMaps and Pods from 16 workers: rate, latencies, the server's CPU per request",
    budgets: &[
        ("create ConfigMaps", times(5.0, 1330.0)),
        ("create ConfigMaps, p99", times(1.0, 31.0)),
        ("create Pods", times(5.0, 620.0)),
        ("create Pods, p99", times(1.0, 122.0)),
    ],
    run: |bench| Box::pin(create(bench)),
};

pub const CHANGE: Row = Row {
    name: "change",
    about: "patch, put and delete of ConfigMaps and Pods from 16 workers",
    budgets: CHANGE_BUDGETS,
    run: |bench| Box::pin(change(bench)),
};

const CHANGE_BUDGETS: &[(&str, Budget)] = &[
    ("patch ConfigMaps", times(5.0, 1300.0)),
    ("put ConfigMaps", times(5.0, 1300.0)),
    ("delete ConfigMaps", times(5.0, 1300.0)),
];

/// Sends all, and notes rate, latencies and what the server spent on each.
pub async fn timed(
    measured: &mut Measured,
    server: &Server,
    workers: &mut Workers,
    what: &str,
    requests: Vec<Prepared>,
) -> anyhow::Result<()> {
    let meter = server.meter()?;
    let outcome = workers.send_all(requests).await?;
    let (load, spent) = meter.stop()?;
    measured.gain(what, outcome.rate(), "/s");
    measured.latencies(what, &outcome.latencies);
    if let Some(spent) = spent {
        let each = spent.cpu_seconds * 1e6 / outcome.latencies.len().max(1) as f64;
        measured.cost(format!("{what}, server CPU"), each, "µs each");
    }
    measured.load(what, load);
    Ok(())
}

async fn create(bench: &Bench) -> anyhow::Result<Measured> {
    let server = bench.serve(Nodes::Any).await?;
    let scratch = Scratch::make(&server).await?;
    let mut workers = server.workers(bench.options.workers).await?;
    let mut measured = Measured::default();
    let maps = scratch.path("configmaps");
    let requests = (0..bench.options.objects).map(|n| Prepared::post(&maps, &config_map(n)));
    timed(
        &mut measured,
        &server,
        &mut workers,
        "create ConfigMaps",
        requests.collect(),
    )
    .await?;
    let pods = scratch.path("pods");
    let requests = (0..bench.options.objects).map(|n| Prepared::post(&pods, &idle_pod(n)));
    timed(&mut measured, &server, &mut workers, "create Pods", requests.collect()).await?;
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}

async fn change(bench: &Bench) -> anyhow::Result<Measured> {
    let server = bench.serve(Nodes::Any).await?;
    let scratch = Scratch::make(&server).await?;
    let all = bench.options.objects;
    scratch.fill(&server, "configmaps", all, config_map).await?;
    scratch.fill(&server, "pods", all, idle_pod).await?;
    let mut workers = server.workers(bench.options.workers).await?;
    let mut measured = Measured::default();
    let (maps, pods) = (scratch.path("configmaps"), scratch.path("pods"));
    let map = |n| format!("{maps}/{}", name("map", n));
    let pod = |n| format!("{pods}/{}", name("pod", n));
    let label = |n: usize| json!({"metadata": {"labels": {"patched": n.to_string()}}});

    let patches = (0..all).map(|n| Prepared::patch(map(n), &json!({"data": {"patched": n.to_string()}})));
    timed(
        &mut measured,
        &server,
        &mut workers,
        "patch ConfigMaps",
        patches.collect(),
    )
    .await?;
    let patches = (0..all).map(|n| Prepared::patch(pod(n), &label(n)));
    timed(&mut measured, &server, &mut workers, "patch Pods", patches.collect()).await?;
    let puts = (0..all).map(|n| {
        let mut changed = config_map(n);
        changed["data"] = json!({"put": n.to_string()});
        Prepared::put(map(n), &changed)
    });
    timed(&mut measured, &server, &mut workers, "put ConfigMaps", puts.collect()).await?;
    let deletes = (0..all).map(|n| Prepared::delete(map(n)));
    timed(
        &mut measured,
        &server,
        &mut workers,
        "delete ConfigMaps",
        deletes.collect(),
    )
    .await?;
    // Nothing of them runs: no grace.
    let deletes = (0..all).map(|n| Prepared::delete(format!("{}?gracePeriodSeconds=0", pod(n))));
    timed(&mut measured, &server, &mut workers, "delete Pods", deletes.collect()).await?;
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}
