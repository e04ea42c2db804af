//! From starting the server until the API answers, and until all of it is up.

use crate::budget::{Budget, at_most};
use crate::figure::Measured;
use crate::latency::Latencies;
use crate::row::{Bench, Row};
use crate::server::{Kind, Nodes, Server, Started};

const API: &str = "start → API ready";
const ALL: &str = "start → everything up";
const AGAIN: &str = "second start → API ready";
const BINARY: &str = "binary";

pub const ROW: Row = Row {
    name: "start",
    about: "starting on an empty directory: until /readyz answers, until the node is Ready (median of --starts)",
    budgets: BUDGETS,
    run: |bench| Box::pin(run(bench)),
};

const BUDGETS: &[(&str, Budget)] = &[
    (API, at_most(100.0).peer_had(3800.0)),
    (ALL, at_most(400.0).peer_had(8800.0)),
    (BINARY, at_most(40.0)),
];

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let mut measured = Measured::default();
    let starts = bench.options.starts.max(1);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    match &bench.target.kind {
        Kind::Own => {
            for _ in 0..starts {
                let (nodes, note) = nodes_of_our_own();
                note.into_iter().for_each(|n| measured.note(n));
                let mut server = Server::not_started(&bench.target, nodes)?;
                first.push(server.start().await?);
                server.stop().await?;
                second.push(server.start().await?);
                server.close().await?;
            }
            if let Some(binary) = &bench.target.coracle {
                measured.cost(BINARY, std::fs::metadata(binary)?.len() as f64 / 1e6, "MB");
            }
        }
        Kind::Foreign(_) => {
            let mut server = bench.serve(Nodes::Any).await?;
            for _ in 0..starts {
                server.stop().await?;
                first.push(server.start().await?);
            }
            measured.note("started on the data that was there");
            server.close().await?;
        }
    }
    let median = |times: &[Started], of: fn(&Started) -> std::time::Duration| {
        Latencies::new(times.iter().map(of)).percentile(50.0)
    };
    measured.cost(API, median(&first, |s| s.api), "ms");
    measured.cost(ALL, median(&first, |s| s.all), "ms");
    if !second.is_empty() {
        measured.cost(AGAIN, median(&second, |s| s.api), "ms");
    }
    Ok(measured)
}

/// A node that runs containers, where it may.
pub fn nodes_of_our_own() -> (Nodes, Option<&'static str>) {
    if nix::unistd::geteuid().is_root() {
        (Nodes::Real, None)
    } else {
        (Nodes::Any, Some("without a node, which needs root"))
    }
}
