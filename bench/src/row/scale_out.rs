//! A Deployment from none to many replicas and back. Pods are bound to nodes that are nothing but objects.

use std::collections::HashSet;

use coracle_clock::Clock;
use serde_json::json;

use crate::bare_nodes::BareNodes;
use crate::budget::times;
use crate::figure::Measured;
use crate::load::{Events, Prepared};
use crate::row::{Bench, Row};
use crate::scratch::Scratch;
use crate::server::{Kind, Limits, Nodes};
use crate::view;
use crate::workload::{count, deployment, deployments, send, within};

pub const ROW: Row = Row {
    name: "scale-out",
    about: "a Deployment 0 → 1,000 pods, all bound, and → 0, all gone",
    budgets: &[
        (
            "Deployment 0 → 1,000, all bound (peer: client limits raised)",
            times(5.0, 3.7),
        ),
        (
            "Deployment 0 → 1,000, all bound (peer: default client limits)",
            times(50.0, 49.5),
        ),
    ],
    run: |bench| Box::pin(run(bench)),
};

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let server = bench.serve(Nodes::Any).await?;
    let replicas = bench.options.replicas;
    let wanted = replicas as usize;
    let nodes = BareNodes::make(&server, wanted.div_ceil(100)).await?;
    let scratch = Scratch::make(&server).await?;
    let endpoint = server.endpoint()?;
    let path = deployments(&scratch);
    send(
        endpoint,
        &Prepared::post(&path, &deployment("many", 0, "v1", json!({}))),
    )
    .await?;
    let mut events = Events::open(endpoint, &scratch.path("pods"), "").await?;
    let mut measured = Measured::default();
    let scale = |replicas: u32| Prepared::patch(format!("{path}/many"), &json!({"spec": {"replicas": replicas}}));
    let (clock, all) = (Clock::system(), count(replicas));

    let meter = server.meter()?;
    let started = clock.instant();
    send(endpoint, &scale(replicas)).await?;
    let (mut created, mut bound) = (HashSet::new(), HashSet::new());
    let mut all_created = None;
    let binding = within("pods to be bound", async {
        while bound.len() < wanted {
            let pod = events.next::<view::Pod>().await?.object;
            if pod.is_bound() {
                bound.insert(pod.metadata.name.clone());
            }
            created.insert(pod.metadata.name);
            if created.len() == wanted && all_created.is_none() {
                all_created = Some(started.elapsed());
            }
        }
        Ok(started.elapsed())
    });
    let took = binding.await?;
    let (load, spent) = meter.stop()?;
    if let Some(created) = all_created {
        measured.cost(format!("Deployment 0 → {all}, all created"), created.as_secs_f64(), "s");
    }
    for (limits, name) in [
        (Limits::Raised, "client limits raised"),
        (Limits::Default, "default client limits"),
    ] {
        if allows(&bench.target.kind, limits) {
            let figure = format!("Deployment 0 → {all}, all bound (peer: {name})");
            measured.cost(figure, took.as_secs_f64(), "s");
        }
    }
    if let Some(spent) = spent {
        measured.cost(format!("Deployment 0 → {all}, server CPU"), spent.cpu_seconds, "s");
    }
    measured.load("scale out", load);

    let meter = server.meter()?;
    let started = clock.instant();
    send(endpoint, &scale(0)).await?;
    let going = within("pods to be gone", async {
        while !bound.is_empty() {
            let event = events.next::<view::Pod>().await?;
            if event.is_deletion() {
                bound.remove(&event.object.metadata.name);
            }
        }
        Ok(started.elapsed())
    });
    let took = going.await?;
    measured.cost(format!("Deployment {all} → 0, all gone"), took.as_secs_f64(), "s");
    measured.load("scale in", meter.stop()?.0);
    scratch.drop_from(&server, bench.target.is_own()).await?;
    nodes.delete(server.client()?).await?;
    server.close().await?;
    Ok(measured)
}

/// A server of our own has no client limits, and is compared with both.
fn allows(kind: &Kind, limits: Limits) -> bool {
    match kind {
        Kind::Own => true,
        Kind::Foreign(foreign) => foreign.limits == limits,
    }
}
