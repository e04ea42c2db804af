//! Listing all Pods, whole and in pages.

use std::time::Duration;

use anyhow::Context;
use coracle_clock::Clock;
use serde::Deserialize;

use crate::budget::times;
use crate::figure::Measured;
use crate::latency::Latencies;
use crate::load::{Connection, Prepared};
use crate::row::{Bench, Row};
use crate::scratch::{Scratch, idle_pod};
use crate::server::Nodes;
use crate::workload::count;

pub const ROW: Row = Row {
    name: "list",
    about: "one client lists 5,000 Pods, whole and in pages of 500 (median of 11 lists)",
    budgets: &[
        ("list of 5,000 Pods, whole", times(10.0, 358.0)),
        ("list of 5,000 Pods, in pages of 500", times(10.0, 457.0)),
    ],
    run: |bench| Box::pin(run(bench)),
};

const LISTS: usize = 11;

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let server = bench.serve(Nodes::Any).await?;
    let scratch = Scratch::make(&server).await?;
    let all = bench.options.objects;
    scratch.fill(&server, "pods", all, idle_pod).await?;
    let mut connection = server.endpoint()?.connect().await?;
    let mut measured = Measured::default();
    for (limit, how) in [(0, "whole"), (500, "in pages of 500")] {
        let what = format!("list of {} Pods, {how}", count(all as u64));
        let meter = server.meter()?;
        let mut took = Vec::new();
        for _ in 0..LISTS {
            took.push(list(&mut connection, &Prepared::get(scratch.path("pods")), limit).await?);
        }
        let (load, spent) = meter.stop()?;
        let latencies = Latencies::new(took);
        measured.cost(&what, latencies.percentile(50.0), "ms");
        if let Some(spent) = spent {
            measured.cost(
                format!("{what}, server CPU"),
                spent.cpu_seconds * 1000.0 / LISTS as f64,
                "ms each",
            );
        }
        measured.load(&what, load);
    }
    scratch.drop_from(&server, bench.target.is_own()).await?;
    server.close().await?;
    Ok(measured)
}

/// Lists to the end; without a limit in one answer.
pub async fn list(connection: &mut Connection, request: &Prepared, limit: usize) -> anyhow::Result<Duration> {
    let started = Clock::system().instant();
    if limit == 0 {
        connection.call(request).await?;
        return Ok(started.elapsed());
    }
    let mut query = format!("?limit={limit}");
    loop {
        let mut next = request.clone();
        next.path.push_str(&query);
        let page = connection.read(&next).await?;
        let token = continue_token(&page)?;
        if token.is_empty() {
            return Ok(started.elapsed());
        }
        query = format!("?limit={limit}&continue={token}");
    }
}

/// The token of a list, found without reading its items where the metadata comes first, as servers write it.
fn continue_token(page: &[u8]) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct List {
        #[serde(default)]
        metadata: Meta,
    }
    #[derive(Default, Deserialize)]
    struct Meta {
        #[serde(default, rename = "continue")]
        token: String,
    }
    const METADATA: &[u8] = b"\"metadata\":";
    const ITEMS: &[u8] = b"\"items\":";
    const COLUMNS: &[u8] = b"\"columnDefinitions\":";
    let find = |what: &[u8]| page.windows(what.len()).position(|w| w == what);
    if let (Some(items), Some(metadata)) = (find(COLUMNS).or_else(|| find(ITEMS)), find(METADATA))
        && metadata < items
    {
        let text = &page[metadata + METADATA.len()..items];
        let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Meta>();
        return Ok(values.next().context("a list without metadata")??.token);
    }
    Ok(serde_json::from_slice::<List>(page)?.metadata.token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_wherever_the_metadata_is() {
        let first = br#"{"kind":"PodList","metadata":{"resourceVersion":"7","continue":"abc"},"items":[{"metadata":{"continue":"no"}}]}"#;
        assert_eq!(continue_token(first).unwrap(), "abc");
        let last = br#"{"items":[{"metadata":{"name":"x"}}],"metadata":{"continue":"abc"}}"#;
        assert_eq!(continue_token(last).unwrap(), "abc");
        let table = br#"{"kind":"Table","metadata":{"continue":"abc"},"columnDefinitions":[],"rows":[{"object":{"metadata":{}}}]}"#;
        assert_eq!(continue_token(table).unwrap(), "abc");
        assert_eq!(continue_token(br#"{"metadata":{},"items":[]}"#).unwrap(), "");
        assert_eq!(continue_token(br#"{"items":[]}"#).unwrap(), "");
        assert!(continue_token(b"no").is_err());
    }
}
