//! The process itself, by the names that every Prometheus client uses, read from `/proc` when somebody asks.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The kernel's unit of time in `/proc`, the same on every architecture that matters.
const TICKS: f64 = 100.0;
const PAGE: f64 = 4096.0;

#[derive(Debug)]
pub(super) struct Process;

/// What `/proc/self/stat` says: CPU seconds, the start in seconds after boot, virtual and resident bytes.
fn stat(text: &str) -> Option<[f64; 4]> {
    // The name, which may contain anything, ends at the last parenthesis.
    let fields: Vec<f64> = text
        .get(text.rfind(')')? + 2..)?
        .split_ascii_whitespace()
        .skip(1)
        .map(|f| f.parse().unwrap_or(0.0))
        .collect();
    let at = |i: usize| fields.get(i).copied();
    Some([(at(10)? + at(11)?) / TICKS, at(18)? / TICKS, at(19)?, at(20)? * PAGE])
}

fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn most_open_files() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| -> Result<(), fmt::Error> {
            let Some(value) = value else { return Ok(()) };
            let metric = ConstGauge::new(value);
            let described = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(described)
        };
        let found = fs::read_to_string("/proc/self/stat").ok().and_then(|t| stat(&t));
        let open = fs::read_dir("/proc/self/fd").ok().map(|all| all.count() as f64);
        gauge("process_open_fds", "Open file descriptors", open)?;
        gauge("process_max_fds", "The most open file descriptors", most_open_files())?;
        gauge("process_virtual_memory_bytes", "Virtual memory", found.map(|f| f[2]))?;
        gauge("process_resident_memory_bytes", "Resident memory", found.map(|f| f[3]))?;
        let start = found.zip(boot_time()).map(|(f, boot)| boot + f[1]);
        gauge("process_start_time_seconds", "When the process started", start)?;
        if let Some([cpu, ..]) = found {
            let metric = ConstCounter::new(cpu);
            let described =
                encoder.encode_descriptor("process_cpu_seconds", "CPU time spent", None, metric.metric_type())?;
            metric.encode(described)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_name() {
        let line = "1 (a) b) S 0 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 4 0 1200 8192 3 0";
        assert_eq!(stat(line), Some([2.0, 12.0, 8192.0, 12288.0]));
        assert_eq!(stat("nonsense"), None);
    }
}
