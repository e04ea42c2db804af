//! What pods that do nothing cost their node: memory beyond their own processes, and CPU.

use std::path::Path;

use coracle_clock::Clock;
use serde_json::Value;

use super::idle::observe;
use super::pod_start::{pod, running, start};
use crate::figure::Measured;
use crate::image;
use crate::load::{Events, Prepared};
use crate::process::{Usage, field, running_in};
use crate::row::{Bench, Row};
use crate::scratch::{Scratch, name};
use crate::server::{Nodes, Unavailable};
use crate::workload::within;

pub const ROW: Row = Row {
    name: "node-pods",
    about: "100 pods that sleep on a node: memory for each beyond its own processes, and CPU at rest",
    budgets: &[],
    run: |bench| Box::pin(run(bench)),
};

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    if !bench.target.is_own() {
        return Unavailable::because("needs to know which processes are the pods' infrastructure");
    }
    let server = bench.serve(Nodes::Real).await?;
    let image = image::ready(bench, &server).await?;
    let scratch = Scratch::make(&server).await?;
    let mut measured = Measured::default();
    let count = bench.options.pods;

    // What is made once is the first pod's.
    start(&server, &scratch, &[pod("first", &image)]).await?;
    let without = observe(bench, &server, "node at rest without pods", &mut measured).await?;
    let empty = server.resident()?;

    let path = scratch.path("pods");
    let mut events = Events::open(server.endpoint()?, &path, "").await?;
    let pods: Vec<Value> = (0..count).map(|n| pod(&name("rest", n), &image)).collect();
    let mut creating = server.workers(4).await?;
    creating
        .send_all(pods.iter().map(|p| Prepared::post(&path, p)).collect())
        .await?;
    within("the pods to run", running(&mut events, count)).await?;
    drop(events);

    let shims = running_in(&server.sandboxes());
    if shims.len() != count {
        anyhow::bail!("{count} pods have {} shims", shims.len());
    }
    let what = format!("node at rest with {count} pods");
    let (before, began) = (Usage::of(&shims)?, Clock::system().instant());
    let with = observe(bench, &server, &what, &mut measured).await?;
    let (after, seconds) = (Usage::of(&shims)?, began.elapsed().as_secs_f64());

    let percent = |cpu_seconds: f64, of: f64| cpu_seconds / of * 100.0;
    let idle = bench.options.idle.as_secs_f64();
    measured.cost(
        format!("{what}, CPU of the pods alone"),
        percent(with.cpu_seconds - without.cpu_seconds, idle),
        "% of a core",
    );
    measured.cost(
        format!("{what}, CPU of their shims"),
        percent(after.since(&before).cpu_seconds, seconds),
        "% of a core",
    );
    let each = |mebibytes: f64| mebibytes / count as f64;
    let proportional: u64 = shims
        .iter()
        .map(|pid| proportional(*pid))
        .sum::<anyhow::Result<u64>>()?;
    let of_shims = each(proportional as f64 / 1_048_576.0);
    let of_server = each(server.resident()? - empty);
    measured.cost("memory for a pod, in its shim", of_shims, "MiB");
    measured.cost("memory for a pod, in server and agent", of_server, "MiB");
    measured.cost("memory for a pod beyond its own processes", of_shims + of_server, "MiB");
    measured.note("a shim's memory is its proportional share (PSS): the program's pages are there once for all shims");
    scratch.drop_from(&server, true).await?;
    server.close().await?;
    Ok(measured)
}

/// Bytes of a process's own, with its share of those that it has together with others.
fn proportional(pid: u32) -> anyhow::Result<u64> {
    let path = Path::new("/proc").join(pid.to_string()).join("smaps_rollup");
    Ok(field(&std::fs::read_to_string(path)?, "Pss:") * 1024)
}
