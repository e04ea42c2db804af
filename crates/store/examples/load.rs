//! Loads the embedded engine and reports durable commits a second, then the time and memory of a restart.
//!
//! ```text
//! cargo run --release -p coracle-store --example load -- DIRECTORY [WRITERS] [VALUE BYTES] [WRITES] [KEYS]
//! ```
#![allow(clippy::unwrap_used, reason = "an example that has failed may stop")]

use std::path::Path;
use std::sync::Arc;

use coracle_clock::Clock;
use coracle_store::{Embedded, EmbeddedOptions, Store, Txn};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(directory) = arguments.first().map(Path::new) else {
        eprintln!("usage: load DIRECTORY [WRITERS] [VALUE BYTES] [WRITES] [KEYS]");
        return;
    };
    let number = |index: usize, default: u64| arguments.get(index).map_or(default, |text| text.parse().unwrap());
    let (writers, size, writes, keys) = (number(1, 16), number(2, 1024), number(3, 50_000), number(4, 5_000));
    let clock = Clock::system();

    let store = Arc::new(Embedded::open(directory, EmbeddedOptions::default()).await.unwrap());
    let value: Vec<u8> = (0..size).map(|n| b'a' + (n * 31 % 26) as u8).collect();
    let started = clock.instant();
    let write = |writer: u64| {
        let (store, value) = (store.clone(), value.clone());
        async move {
            let mut latencies = Vec::new();
            for n in 0..writes / writers {
                let begun = clock.instant();
                let key = format!("/registry/configmaps/default/{:06}", (n * writers + writer) % keys);
                store.txn(Txn::put(key, value.clone())).await.unwrap();
                latencies.push(clock.instant().duration_since(begun));
            }
            latencies
        }
    };
    let tasks: Vec<_> = (0..writers).map(|writer| tokio::spawn(write(writer))).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    let elapsed = clock.instant().duration_since(started);
    latencies.sort_unstable();
    let last = latencies.len().saturating_sub(1);
    let part = |percent: usize| latencies.get(last * percent / 100).copied().unwrap_or_default();
    println!(
        "{writers} writers of {size} bytes: {:.0} durable commits/s, p50 {:.1?}, p99 {:.1?}",
        latencies.len() as f64 / elapsed.as_secs_f64(),
        part(50),
        part(99)
    );
    println!(
        "{:#?}, {} MiB resident",
        store.status().await.unwrap(),
        resident() >> 20
    );
    store.close().await;
    drop(store);

    let started = clock.instant();
    let store = Embedded::open(directory, EmbeddedOptions::default()).await.unwrap();
    let elapsed = clock.instant().duration_since(started);
    println!(
        "opened again in {elapsed:.1?} with {} keys",
        store.status().await.unwrap().keys
    );
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
