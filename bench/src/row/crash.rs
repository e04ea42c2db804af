//! Killing the server under load: what it had acknowledged must be there, and it must be ready again soon.

use std::collections::BTreeSet;
use std::sync::Arc;

use coracle_clock::Clock;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::budget::at_most;
use crate::figure::Measured;
use crate::load::{Endpoint, Prepared};
use crate::row::{Bench, Row};
use crate::scratch::{Scratch, config_map, name};
use crate::server::{Nodes, Server};
use crate::view;

pub const ROW: Row = Row {
    name: "crash",
    about: "kill -9 while 16 workers write, several times: acknowledged writes that are lost, and the longest time until ready again",
    budgets: &[
        ("kill -9 → ready again, worst", at_most(1000.0)),
        ("kill -9, acknowledged writes lost", at_most(0.0)),
    ],
    run: |bench| Box::pin(run(bench)),
};

/// How long there is load before each kill.
const LOADED: std::time::Duration = std::time::Duration::from_millis(500);

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let mut server = bench.serve(Nodes::Any).await?;
    let scratch = Scratch::make(&server).await?;
    let path = scratch.path("configmaps");
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let (mut worst, mut lost) = (0.0_f64, 0);
    for round in 0..bench.options.starts.max(1) {
        let mut load = JoinSet::new();
        for worker in 0..bench.options.workers {
            let first = (round * bench.options.workers + worker) * 1_000_000;
            load.spawn(write(
                server.endpoint()?.clone(),
                path.clone(),
                first,
                acknowledged.clone(),
            ));
        }
        Clock::system().sleep(LOADED).await;
        server.kill().await?;
        let started = server.start().await?;
        load.join_all().await;
        worst = worst.max(started.api.as_secs_f64() * 1000.0);
        let so_far = acknowledged.lock().clone();
        lost += missing(&server, &path, &so_far).await?;
    }
    let mut measured = Measured::default();
    measured.cost("kill -9 → ready again, worst", worst, "ms");
    measured.cost("kill -9, acknowledged writes lost", lost as f64, "writes");
    measured.note(format!(
        "{} kills, {} writes acknowledged",
        bench.options.starts.max(1),
        acknowledged.lock().len()
    ));
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}

/// Writes until the server is gone.
async fn write(endpoint: Endpoint, path: String, first: usize, acknowledged: Arc<Mutex<BTreeSet<String>>>) {
    let Ok(mut connection) = endpoint.connect().await else {
        return;
    };
    for n in first.. {
        if connection.call(&Prepared::post(&path, &config_map(n))).await.is_err() {
            return;
        }
        acknowledged.lock().insert(name("map", n));
    }
}

async fn missing(server: &Server, path: &str, acknowledged: &BTreeSet<String>) -> anyhow::Result<usize> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        metadata: view::Meta,
    }
    let list = server.endpoint()?.connect().await?.read(&Prepared::get(path)).await?;
    let list: List = serde_json::from_slice(&list)?;
    let there: BTreeSet<String> = list.items.into_iter().map(|i| i.metadata.name).collect();
    Ok(acknowledged.difference(&there).count())
}
