//! What a server costs while nothing happens.

use std::time::Duration;

use anyhow::bail;
use coracle_clock::Clock;

use crate::process::usage;
use crate::report::Report;

pub async fn run(pids: &[u32], seconds: u64) -> anyhow::Result<Report> {
    if pids.is_empty() {
        bail!("say which processes with --pid");
    }
    let before = usage(pids)?;
    Clock::system().sleep(Duration::from_secs(seconds)).await;
    let after = usage(pids)?;
    let per_second = |n: f64| n / seconds.max(1) as f64;
    let mut report = Report::default();
    report.add(
        "idle, CPU",
        per_second(after.cpu_seconds - before.cpu_seconds) * 100.0,
        "% of a core",
    );
    report.add("idle, resident memory", after.resident_bytes as f64 / 1048576.0, "MiB");
    report.add(
        "idle, wake-ups",
        per_second((after.switches - before.switches) as f64),
        "/s",
    );
    report.add(
        "idle, written",
        per_second((after.written_bytes - before.written_bytes) as f64),
        "bytes/s",
    );
    Ok(report)
}
