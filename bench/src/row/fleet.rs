//! Very many fake nodes and pods in one cluster: how long until all run, what they cost at rest, and how long listing them
//! and rolling out a change to some takes.

use coracle_clock::Clock;
use serde_json::json;

use super::idle::observe;
use super::lists::list;
use super::rolling_update::roll;
use crate::budget::at_most;
use crate::figure::Measured;
use crate::load::Prepared;
use crate::row::{Bench, Row};
use crate::scratch::Scratch;
use crate::server::Nodes;
use crate::workload::{count, deployment, deployments, rolled_out, send};

pub const ROW: Row = Row {
    name: "fleet",
    about: "5,000 fake nodes and 100,000 pods: time until all are available, memory and CPU at rest, listing them, \
            a rolling update of 10,000 (takes minutes)",
    budgets: &[("5,000 fake nodes, 100,000 pods, resident memory", at_most(3072.0))],
    run: |bench| Box::pin(run(bench)),
};

/// The most pods of one Deployment.
const FILL: u32 = 10_000;

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let (nodes, pods) = (bench.options.fleet_nodes, bench.options.fleet_pods);
    let server = bench.serve(Nodes::Fake(nodes)).await?;
    let scratch = Scratch::make(&server).await?;
    let what = format!("{} fake nodes, {} pods", count(nodes), count(pods));
    let mut measured = Measured::default();
    let (endpoint, path) = (server.endpoint()?, deployments(&scratch));
    let meter = server.meter()?;
    let started = Clock::system().instant();
    let sizes = (0..pods.div_ceil(FILL)).map(|n| (format!("fill-{n}"), FILL.min(pods - n * FILL)));
    let sizes: Vec<(String, u32)> = sizes.collect();
    for (name, size) in &sizes {
        send(
            endpoint,
            &Prepared::post(&path, &deployment(name, *size, "v1", json!({}))),
        )
        .await?;
    }
    for (name, size) in &sizes {
        rolled_out(&server, &scratch, name, *size).await?;
    }
    measured.cost(format!("{what}, all available"), started.elapsed().as_secs_f64(), "s");
    measured.load("making the pods", meter.stop()?.0);
    observe(bench, &server, &what, &mut measured).await?;
    let mut connection = endpoint.connect().await?;
    let (objects, table) = (Prepared::get("/api/v1/pods"), Prepared::table("/api/v1/pods"));
    for (request, limit, how) in [
        (&objects, 0, "whole"),
        (&objects, 500, "in pages of 500"),
        (&table, 500, "as kubectl get pods -A"),
    ] {
        let took = list(&mut connection, request, limit).await?;
        measured.cost(format!("{what}, list, {how}"), took.as_secs_f64() * 1000.0, "ms");
    }
    if let Some((name, size)) = sizes.first() {
        let what = format!("{what}, rolling update of {} pods", count(*size));
        roll(&server, &scratch, (name, *size), &what, &mut measured).await?;
    }
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}
