//! What a server costs while nothing happens: empty, with objects, and with many pods that run.

use serde_json::json;

use super::start::nodes_of_our_own;
use crate::budget::{Budget, at_most};
use crate::figure::Measured;
use crate::load::Prepared;
use crate::process::Spent;
use crate::row::{Bench, Row};
use crate::scratch::{Scratch, config_map, idle_pod};
use crate::server::{Nodes, Server, Unavailable};
use crate::workload::{count, deployment, deployments, rolled_out, send};

pub const EMPTY: Row = Row {
    name: "idle",
    about: "an empty server at rest: resident memory, CPU, wake-ups, bytes written",
    budgets: &[
        ("idle, resident memory", at_most(30.0).peer_had(442.0)),
        ("idle, CPU", at_most(0.1).peer_had(4.2)),
    ],
    run: |bench| Box::pin(empty(bench)),
};

pub const FILLED: Row = Row {
    name: "idle-filled",
    about: "the same with 5,000 ConfigMaps and 500 pods that nobody schedules",
    budgets: FILLED_BUDGETS,
    run: |bench| Box::pin(filled(bench)),
};

const FILLED_BUDGETS: &[(&str, Budget)] = &[("idle with 5,000 ConfigMaps and 500 pods, CPU", at_most(0.3))];

pub const PODS: Row = Row {
    name: "idle-pods",
    about: "10,000 pods of a Deployment on fake nodes at rest: what all controllers cost then",
    budgets: &[],
    run: |bench| Box::pin(pods(bench)),
};

async fn empty(bench: &Bench) -> anyhow::Result<Measured> {
    let mut measured = Measured::default();
    let nodes = if bench.target.is_own() {
        let (nodes, note) = nodes_of_our_own();
        note.into_iter().for_each(|n| measured.note(n));
        nodes
    } else {
        measured.note("with whatever the server holds");
        Nodes::Any
    };
    let server = bench.serve(nodes).await?;
    observe(bench, &server, "idle", &mut measured).await?;
    server.close().await?;
    Ok(measured)
}

async fn filled(bench: &Bench) -> anyhow::Result<Measured> {
    let server = bench.serve(Nodes::Any).await?;
    let (maps, pods) = (bench.options.objects, bench.options.objects / 10);
    server.usage()?;
    let scratch = Scratch::make(&server).await?;
    scratch.fill(&server, "configmaps", maps, config_map).await?;
    scratch.fill(&server, "pods", pods, idle_pod).await?;
    let mut measured = Measured::default();
    let what = format!(
        "idle with {} ConfigMaps and {} pods",
        count(maps as u64),
        count(pods as u64)
    );
    observe(bench, &server, &what, &mut measured).await?;
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}

async fn pods(bench: &Bench) -> anyhow::Result<Measured> {
    let pods = bench.options.idle_pods;
    let nodes = pods.div_ceil(100);
    let server = bench.serve(Nodes::Fake(nodes)).await?;
    server.usage()?;
    let mut measured = Measured::default();
    let without = observe(bench, &server, &format!("idle with {nodes} fake nodes"), &mut measured).await?;
    let scratch = Scratch::make(&server).await?;
    let made = Prepared::post(deployments(&scratch), &deployment("many", pods, "v1", json!({})));
    send(server.endpoint()?, &made).await?;
    rolled_out(&server, &scratch, "many", pods).await?;
    let what = format!("idle with {nodes} fake nodes and {} pods", count(pods));
    let with = observe(bench, &server, &what, &mut measured).await?;
    let seconds = bench.options.idle.as_secs_f64();
    measured.cost(
        format!("{what}, CPU of the pods alone"),
        (with.cpu_seconds - without.cpu_seconds) / seconds * 100.0,
        "% of a core",
    );
    if bench.target.is_own() {
        measured.note("the fake nodes, which renew a lease every 10 s each, are in the same process");
    }
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}

/// Leaves the server alone, and then measures what it does.
pub async fn observe(bench: &Bench, server: &Server, what: &str, measured: &mut Measured) -> anyhow::Result<Spent> {
    server.usage()?;
    let clock = coracle_clock::Clock::system();
    clock.sleep(bench.options.settle).await;
    let meter = server.meter()?;
    clock.sleep(bench.options.idle).await;
    let (load, spent) = meter.stop()?;
    let Some(spent) = spent else {
        return Unavailable::because("the server's processes are not known");
    };
    measured.cost(format!("{what}, resident memory"), server.resident()?, "MiB");
    measured.cost(
        format!("{what}, CPU"),
        spent.cpu_seconds / load.seconds * 100.0,
        "% of a core",
    );
    measured.cost(format!("{what}, wake-ups"), spent.wakeups as f64 / load.seconds, "/s");
    measured.cost(
        format!("{what}, written"),
        spent.written_bytes as f64 / load.seconds,
        "bytes/s",
    );
    Ok(spent)
}
