//! Memory after many pods have come and gone.

use crate::budget::at_most;
use crate::figure::Measured;
use crate::load::Prepared;
use crate::row::{Bench, Row};
use crate::scratch::{Scratch, idle_pod, name};
use crate::server::Nodes;
use crate::workload::count;

pub const ROW: Row = Row {
    name: "churn",
    about: "resident memory after 5,000 pods were created and deleted",
    budgets: &[(
        "memory after 5,000 pods created and deleted",
        at_most(100.0).peer_had(900.0),
    )],
    run: |bench| Box::pin(run(bench)),
};

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let server = bench.serve(Nodes::Any).await?;
    let mut measured = Measured::default();
    let before = server.resident()?;
    let scratch = Scratch::make(&server).await?;
    let all = bench.options.objects;
    scratch.fill(&server, "pods", all, idle_pod).await?;
    let full = server.resident()?;
    let path = scratch.path("pods");
    let deletes = (0..all).map(|n| Prepared::delete(format!("{path}/{}?gracePeriodSeconds=0", name("pod", n))));
    server
        .workers(bench.options.workers)
        .await?
        .send_all(deletes.collect())
        .await?;
    coracle_clock::Clock::system().sleep(bench.options.settle).await;
    let pods = count(all as u64);
    measured.cost(
        format!("memory after {pods} pods created and deleted"),
        server.resident()?,
        "MiB",
    );
    measured.cost(format!("memory with {pods} pods"), full, "MiB");
    measured.note(format!("{before:.0} MiB before"));
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}
