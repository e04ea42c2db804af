//! Many watchers that each see every write of one writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use coracle_clock::{Clock, Instant};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::budget::{Budget, times};
use crate::figure::Measured;
use crate::latency::{Latencies, micros};
use crate::load::{Endpoint, Prepared};
use crate::report::number;
use crate::row::{Bench, Row};
use crate::scratch::Scratch;
use crate::server::Nodes;
use crate::workload::count;

pub const HUNDRED: Row = row(
    "watch-100",
    "100 watchers of one ConfigMap, 20 writes/s",
    &[],
    |bench| Box::pin(run(bench, 100)),
);

pub const THOUSAND: Row = row(
    "watch-1000",
    "1,000 watchers: write to delivery, and the server's CPU for 200,000 events",
    &[
        ("1,000 watchers, write → delivery, p50", times(4.0, 24.0)),
        ("1,000 watchers, write → delivery, p99", times(4.0, 119.0)),
        ("1,000 watchers, server CPU for 200,000 events", times(4.0, 7.8)),
    ],
    |bench| Box::pin(run(bench, 1000)),
);

pub const TEN_THOUSAND: Row = row("watch-10000", "10,000 watchers", &[], |bench| {
    Box::pin(run(bench, 10_000))
});

type Run = for<'a> fn(&'a Bench) -> futures::future::BoxFuture<'a, anyhow::Result<Measured>>;

const fn row(name: &'static str, about: &'static str, budgets: &'static [(&'static str, Budget)], run: Run) -> Row {
    Row {
        name,
        about,
        budgets,
        run,
    }
}

/// Watches on one connection: fewer than any server allows.
const ON_ONE: usize = 90;
/// After the last write, how long events may still come.
const LATE: Duration = Duration::from_secs(120);

/// When each write was sent, in microseconds after the start; 0 until it is.
struct Sent {
    start: Instant,
    at: Vec<AtomicU64>,
}

async fn run(bench: &Bench, watchers: usize) -> anyhow::Result<Measured> {
    let clock = Clock::system();
    let server = bench.serve(Nodes::Any).await?;
    let scratch = Scratch::make(&server).await?;
    let maps = scratch.path("configmaps");
    let writes = bench.options.writes;
    let mut writer = server.endpoint()?.connect().await?;
    let ticker = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ticker"}});
    let made: Value = serde_json::from_slice(&writer.read(&Prepared::post(&maps, &ticker)).await?)?;
    let from = made["metadata"]["resourceVersion"]
        .as_str()
        .context("no resourceVersion")?;

    let before = server.resident().ok();
    let sent = Arc::new(Sent {
        start: clock.instant(),
        at: (0..writes).map(|_| AtomicU64::new(0)).collect(),
    });
    let path = format!("{maps}?watch=true&resourceVersion={from}&fieldSelector=metadata.name%3Dticker");
    let mut tasks = open(server.endpoint()?, &path, watchers, &sent).await?;

    let what = format!("{} watchers", count(watchers as u64));
    let meter = server.meter()?;
    let pause = Duration::from_secs_f64(1.0 / f64::from(bench.options.write_rate.max(1)));
    let mut due = clock.instant();
    for (n, at) in sent.at.iter().enumerate() {
        let patch = Prepared::patch(format!("{maps}/ticker"), &json!({"data": {"n": n.to_string()}}));
        at.store(sent.start.elapsed().as_micros() as u64, Ordering::Release);
        writer.call(&patch).await?;
        due += pause;
        clock.sleep_until(due).await;
    }
    let wrote = sent.start.elapsed().saturating_sub(Duration::from_micros(first(&sent)));
    let mut all = Vec::with_capacity(watchers * writes);
    let collected = clock.timeout(LATE, async {
        while let Some(seen) = tasks.join_next().await {
            all.extend(seen??);
        }
        anyhow::Ok(())
    });
    let collected = collected.await;
    collected.with_context(|| format!("{what}: events are still missing {LATE:?} after the last write"))??;
    let (load, spent) = meter.stop()?;
    let after = server.resident().ok();

    let events = count(all.len() as u64);
    let mut measured = Measured::default();
    measured.latencies(&format!("{what}, write → delivery"), &Latencies::from_micros(all));
    if let Some(spent) = spent {
        measured.cost(
            format!("{what}, server CPU for {events} events"),
            spent.cpu_seconds,
            "s",
        );
    }
    if let (Some(before), Some(after)) = (before, after) {
        let each = (after - before).max(0.0) * 1024.0 / watchers as f64;
        measured.cost(format!("{what}, memory each"), each, "KiB");
    }
    let rate = writes as f64 / wrote.as_secs_f64().max(1e-9);
    if rate < 0.9 * f64::from(bench.options.write_rate) {
        measured.note(format!(
            "the writer was answered too slowly for its rate: {} writes/s and not {}",
            number(rate),
            bench.options.write_rate
        ));
    }
    measured.load(&what, load);
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}

/// When the first write was sent.
fn first(sent: &Sent) -> u64 {
    sent.at.first().map_or(0, |at| at.load(Ordering::Acquire))
}

/// Opens all watches; each then gives the delays of its events.
async fn open(
    endpoint: &Endpoint,
    path: &str,
    watchers: usize,
    sent: &Arc<Sent>,
) -> anyhow::Result<JoinSet<anyhow::Result<Vec<u32>>>> {
    let endpoint = endpoint.multiplexed()?;
    let on_one = if endpoint.is_multiplexed() { ON_ONE } else { 1 };
    let mut tasks = JoinSet::new();
    let mut left = watchers;
    while left > 0 {
        let mut connection = endpoint.connect().await?;
        for _ in 0..left.min(on_one) {
            let body = connection.open(&Prepared::get(path)).await?;
            tasks.spawn(follow(body, sent.clone()));
        }
        left -= left.min(on_one);
    }
    Ok(tasks)
}

/// An event is a line, and the nth is of the nth write.
async fn follow(mut body: Incoming, sent: Arc<Sent>) -> anyhow::Result<Vec<u32>> {
    let mut delays = Vec::with_capacity(sent.at.len());
    while delays.len() < sent.at.len() {
        let frame = body.frame().await.context("a watch ended early")??;
        let lines = frame.data_ref().map_or(0, newlines);
        let now = sent.start.elapsed();
        for _ in 0..lines {
            let write = sent.at.get(delays.len()).context("more events than writes")?;
            let at = Duration::from_micros(write.load(Ordering::Acquire));
            delays.push(micros(now.saturating_sub(at)));
        }
    }
    Ok(delays)
}

fn newlines(bytes: &Bytes) -> usize {
    bytes.iter().filter(|b| **b == b'\n').count()
}
