//! Getting single ConfigMaps and Pods.

use super::writes::timed;
use crate::budget::times;
use crate::figure::Measured;
use crate::load::Prepared;
use crate::row::{Bench, Row};
use crate::scratch::{Scratch, config_map, idle_pod, name};
use crate::server::Nodes;

pub const GET: Row = Row {
    name: "get",
    about: "gets of single ConfigMaps and Pods from 16 workers",
    budgets: &[("get ConfigMaps", times(5.0, 3550.0)), ("get Pods", times(5.0, 1750.0))],
    run: |bench| Box::pin(run(bench)),
};

/// How often each object is read.
const ROUNDS: usize = 4;

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let server = bench.serve(Nodes::Any).await?;
    let scratch = Scratch::make(&server).await?;
    let all = bench.options.objects;
    scratch.fill(&server, "configmaps", all, config_map).await?;
    scratch.fill(&server, "pods", all, idle_pod).await?;
    let mut workers = server.workers(bench.options.workers).await?;
    let mut measured = Measured::default();
    for (what, plural, prefix) in [("get ConfigMaps", "configmaps", "map"), ("get Pods", "pods", "pod")] {
        let path = scratch.path(plural);
        let gets = (0..all * ROUNDS).map(|n| Prepared::get(format!("{path}/{}", name(prefix, n % all))));
        timed(&mut measured, &server, &mut workers, what, gets.collect()).await?;
    }
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}
