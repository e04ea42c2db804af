//! Stopping a server that holds many objects, and starting it again.

use crate::budget::at_most;
use crate::figure::Measured;
use crate::load::Prepared;
use crate::row::lists::list;
use crate::row::{Bench, Row};
use crate::scratch::{Scratch, config_map, idle_pod, name};
use crate::server::Nodes;
use crate::workload::count;

pub const ROW: Row = Row {
    name: "restart",
    about: "a restart with 20,000 ConfigMaps and 5,000 Pods: until ready, and memory after both have been listed",
    budgets: &[
        (
            "restart with 20,000 ConfigMaps and 5,000 Pods → ready",
            at_most(0.4).peer_had(4.9),
        ),
        (
            "restart with 20,000 ConfigMaps and 5,000 Pods, memory after",
            at_most(150.0).peer_had(830.0),
        ),
    ],
    run: |bench| Box::pin(run(bench)),
};

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let mut server = bench.serve(Nodes::Any).await?;
    let maps = bench.options.restart_maps.max(4);
    let pods = maps / 4;
    let scratch = Scratch::make(&server).await?;
    scratch.fill(&server, "configmaps", maps, config_map).await?;
    scratch.fill(&server, "pods", pods, idle_pod).await?;
    let mut measured = Measured::default();
    let what = format!(
        "restart with {} ConfigMaps and {} Pods",
        count(maps as u64),
        count(pods as u64)
    );
    server.stop().await?;
    let started = server.start().await?;
    // Ready must mean that everything is there.
    let mut connection = server.endpoint()?.connect().await?;
    for (plural, prefix, last) in [("configmaps", "map", maps - 1), ("pods", "pod", pods - 1)] {
        let path = scratch.path(plural);
        connection
            .call(&Prepared::get(format!("{path}/{}", name(prefix, last))))
            .await?;
        list(&mut connection, &Prepared::get(path), 0).await?;
    }
    measured.cost(format!("{what} → ready"), started.api.as_secs_f64(), "s");
    measured.cost(format!("{what} → everything up"), started.all.as_secs_f64(), "s");
    coracle_clock::Clock::system().sleep(bench.options.settle).await;
    if let Ok(resident) = server.resident() {
        measured.cost(format!("{what}, memory after"), resident, "MiB");
    }
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}
