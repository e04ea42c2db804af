//! Compares embedded storage crates at what the store asks of one. `docs/storage.md` shows the results.
//!
//! ```text
//! cargo run --release --manifest-path crates/store/compare/Cargo.toml -- DIRECTORY
//! ```
//!
//! Every engine gets the layout that the store uses: rows under a rising number, appended in batches that are durable
//! when `write` returns, superseded rows removed along with later batches, everything read once at the start. Each
//! measurement runs in a process of its own, so that its memory is its own.

mod engine;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use engine::open;

const ENGINES: [&str; 3] = ["redb", "fjall", "sqlite"];
const MEASUREMENTS: [&str; 5] = ["puts", "churn", "fill", "open", "crash"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [directory] => all(Path::new(directory)),
        [directory, engine, measurement] => one(Path::new(directory), engine, measurement),
        _ => eprintln!("usage: compare-storage DIRECTORY [ENGINE MEASUREMENT]"),
    }
}

fn all(directory: &Path) {
    for engine in ENGINES {
        for measurement in MEASUREMENTS {
            let mut command = Command::new(std::env::current_exe().unwrap());
            // The status is not looked at: the crash is one.
            let _ = command.arg(directory).arg(engine).arg(measurement).status().unwrap();
            if measurement == "crash" {
                let mut command = Command::new(std::env::current_exe().unwrap());
                let _ = command.arg(directory).arg(engine).arg("open").status().unwrap();
            }
        }
    }
}

fn one(directory: &Path, engine: &str, measurement: &str) {
    let fresh = |name: &str| {
        let path = directory.join(format!("{engine}-{name}"));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let report = match measurement {
        "puts" => puts(engine, &fresh("puts")),
        "churn" => churn(engine, &fresh("churn")),
        "fill" => fill(engine, &fresh("open")),
        "open" => reopen(engine, &directory.join(format!("{engine}-open"))),
        "crash" => crash(engine, &directory.join(format!("{engine}-open"))),
        other => panic!("no measurement {other}"),
    };
    println!("{engine:>7} {measurement:>6}: {report}, {} MiB resident at the end", resident() >> 20);
}

/// Text of some entropy, like JSON.
fn value(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut text = Vec::with_capacity(size + 16);
    while text.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.extend_from_slice(format!("\"f{:x}\":{}", state >> 60, state >> 40).as_bytes());
    }
    text.truncate(size);
    text
}

/// 16 writers of values of 1 to 4 KB, each waiting until its write is durable.
fn puts(engine: &str, path: &Path) -> String {
    struct Queue {
        pending: Vec<(u64, Vec<u8>)>,
        next: u64,
        durable: u64,
        stop: bool,
    }
    let mut store = open(engine, path);
    let queue = Mutex::new(Queue { pending: Vec::new(), next: 1, durable: 0, stop: false });
    let (filled, synced) = (Condvar::new(), Condvar::new());
    let mut syncs = 0;
    let started = Instant::now();
    let mut latencies: Vec<Duration> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..16_u64)
            .map(|writer| {
                let (queue, filled, synced) = (&queue, &filled, &synced);
                scope.spawn(move || {
                    let mut latencies = Vec::new();
                    for n in 0.. {
                        let value = value(writer << 32 | n, 1024 + (n as usize * 37 % 3072));
                        let begun = Instant::now();
                        let mut guard = queue.lock().unwrap();
                        if guard.stop {
                            break;
                        }
                        let row = guard.next;
                        guard.next += 1;
                        guard.pending.push((row, value));
                        filled.notify_one();
                        drop(synced.wait_while(guard, |queue| queue.durable < row).unwrap());
                        latencies.push(begun.elapsed());
                    }
                    latencies
                })
            })
            .collect();
        while started.elapsed() < Duration::from_secs(5) {
            let mut guard = filled.wait_while(queue.lock().unwrap(), |queue| queue.pending.is_empty()).unwrap();
            let batch = std::mem::take(&mut guard.pending);
            drop(guard);
            store.write(&batch, &[]);
            syncs += 1;
            queue.lock().unwrap().durable = batch.last().unwrap().0;
            synced.notify_all();
        }
        let mut guard = queue.lock().unwrap();
        guard.stop = true;
        guard.durable = u64::MAX;
        drop(guard);
        synced.notify_all();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    latencies.sort_unstable();
    let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
    let p99 = latencies[latencies.len() * 99 / 100];
    format!("{rate:.0} puts/s, {:.1} a sync, p99 {p99:.1?}", latencies.len() as f64 / f64::from(syncs))
}

/// A million updates of 1000 keys of 1 KB; a row is removed some thousand updates after it was superseded.
fn churn(engine: &str, path: &Path) -> String {
    const UPDATES: u64 = 1_000_000;
    const BATCH: u64 = 64;
    let mut store = open(engine, path);
    let started = Instant::now();
    let mut largest = 0;
    for batch in 0..UPDATES / BATCH {
        let rows: Vec<_> = (batch * BATCH..(batch + 1) * BATCH).map(|row| (row, value(row, 1024))).collect();
        // Rows are written over in turn, so that what was written 1000 rows ago is superseded.
        let dead: Vec<_> = match batch.checked_sub(80) {
            Some(old) if batch % 8 == 0 => (old * BATCH..(old + 8) * BATCH).collect(),
            _ => Vec::new(),
        };
        store.write(&rows, &dead);
        if batch % 1000 == 0 {
            largest = largest.max(size(path));
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let end = size(path);
    format!("{:.0} updates/s, {} MiB on disk at the end, {} at most", UPDATES as f64 / seconds, end >> 20, largest >> 20)
}

/// 100,000 rows of 1 KB, closed in good order.
fn fill(engine: &str, path: &Path) -> String {
    let mut store = open(engine, path);
    for batch in 0..100_u64 {
        let rows: Vec<_> = (batch * 1000..(batch + 1) * 1000).map(|row| (row, value(row, 1024))).collect();
        store.write(&rows, &[]);
    }
    drop(store);
    format!("{} MiB on disk", size(path) >> 20)
}

/// Opens what `fill` left and reads it all.
fn reopen(engine: &str, path: &Path) -> String {
    let started = Instant::now();
    let store = open(engine, path);
    let opened = started.elapsed();
    let (mut rows, mut bytes) = (0_u64, 0);
    store.scan(&mut |_, value| {
        rows += 1;
        bytes += value.len();
    });
    format!("opened in {opened:.1?}, {rows} rows of {} MiB read after {:.1?}", bytes >> 20, started.elapsed())
}

/// Writes a little and dies without closing.
fn crash(engine: &str, path: &Path) -> String {
    let mut store = open(engine, path);
    store.write(&[(1_000_000, value(1, 1024))], &[]);
    println!("{engine:>7}  crash: dies");
    std::process::abort()
}

fn size(path: &Path) -> u64 {
    let mut total = 0;
    let mut pending = vec![PathBuf::from(path)];
    while let Some(path) = pending.pop() {
        let Ok(metadata) = path.metadata() else { continue };
        if metadata.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            // What is allocated, not what is promised.
            total += std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
        }
    }
    total
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
