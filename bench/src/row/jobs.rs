//! Many Jobs of one pod each, until all are complete.

use std::collections::HashSet;

use anyhow::bail;
use coracle_clock::Clock;
use serde_json::{Value, json};

use crate::figure::Measured;
use crate::load::{Events, Prepared};
use crate::row::{Bench, Row};
use crate::scratch::{Scratch, name};
use crate::server::Nodes;
use crate::view;
use crate::workload::{count, within};

pub const ROW: Row = Row {
    name: "jobs",
    about: "1,000 Jobs of one pod, from the first create until all are complete, on fake nodes where pods end at once",
    budgets: &[],
    run: |bench| Box::pin(run(bench)),
};

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let jobs = bench.options.jobs as usize;
    let server = bench.serve(Nodes::Fake(bench.options.jobs.div_ceil(100) + 1)).await?;
    let scratch = Scratch::make(&server).await?;
    let path = format!("/apis/batch/v1/namespaces/{}/jobs", scratch.name);
    let mut events = Events::open(server.endpoint()?, &path, "").await?;
    let mut workers = server.workers(bench.options.workers).await?;
    let requests = (0..jobs).map(|n| Prepared::post(&path, &job(n))).collect();

    let meter = server.meter()?;
    let started = Clock::system().instant();
    let watching = tokio::spawn(async move {
        let mut complete = HashSet::new();
        while complete.len() < jobs {
            let job = events.next::<view::Job>().await?.object;
            if job.has_failed() {
                bail!("Job {} failed", job.metadata.name);
            }
            if job.is_complete() {
                complete.insert(job.metadata.name);
            }
        }
        Ok(started.elapsed())
    });
    let created = workers.send_all(requests).await?;
    let took = within("Jobs to be complete", async { watching.await? }).await?;
    let (load, spent) = meter.stop()?;
    let what = format!("{} Jobs of one pod", count(jobs as u64));
    let mut measured = Measured::default();
    measured.cost(format!("{what}, all created"), created.took.as_secs_f64(), "s");
    measured.cost(format!("{what}, all complete"), took.as_secs_f64(), "s");
    if let Some(spent) = spent {
        measured.cost(format!("{what}, server CPU"), spent.cpu_seconds, "s");
    }
    measured.load(&what, load);
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}

fn job(n: usize) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name("job", n)},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "c", "image": "demo/web:v1", "command": ["true"]}],
        }}},
    })
}
