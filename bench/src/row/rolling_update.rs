//! A rolling update of a Deployment whose pods become ready at once.

use coracle_clock::Clock;
use serde_json::json;

use crate::figure::Measured;
use crate::load::Prepared;
use crate::row::{Bench, Row};
use crate::scratch::Scratch;
use crate::server::{Nodes, Server};
use crate::workload::{count, deployment, deployments, rolled_out, send};

pub const ROW: Row = Row {
    name: "rolling-update",
    about: "a rolling update of 1,000 pods (surge and unavailability of 25 %) on fake nodes, where pods start and end at once",
    budgets: &[],
    run: |bench| Box::pin(run(bench)),
};

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let replicas = bench.options.replicas;
    let server = bench.serve(Nodes::Fake((replicas * 5 / 4).div_ceil(100) + 1)).await?;
    let scratch = Scratch::make(&server).await?;
    let (endpoint, path) = (server.endpoint()?, deployments(&scratch));
    send(
        endpoint,
        &Prepared::post(&path, &deployment("web", replicas, "v1", json!({}))),
    )
    .await?;
    rolled_out(&server, &scratch, "web", replicas).await?;

    let mut measured = Measured::default();
    let what = format!("rolling update of {} pods", count(replicas));
    roll(&server, &scratch, ("web", replicas), &what, &mut measured).await?;
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}

/// From the change of a Deployment that is there, of this name and size, until all its pods are new.
pub(super) async fn roll(
    server: &Server,
    scratch: &Scratch,
    (name, replicas): (&str, u32),
    what: &str,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let changed = deployment(name, replicas, "v2", json!({}));
    let request = Prepared::patch(format!("{}/{name}", deployments(scratch)), &changed);
    let meter = server.meter()?;
    let started = Clock::system().instant();
    send(server.endpoint()?, &request).await?;
    rolled_out(server, scratch, name, replicas).await?;
    let took = started.elapsed();
    let (load, spent) = meter.stop()?;
    measured.cost(what, took.as_secs_f64(), "s");
    if let Some(spent) = spent {
        measured.cost(format!("{what}, server CPU"), spent.cpu_seconds, "s");
    }
    measured.load(what, load);
    Ok(())
}
