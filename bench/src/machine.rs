//! The machine that a run was made on, as far as figures depend on it.

use std::io::Write;
use std::path::Path;

use coracle_clock::Clock;
use serde::{Deserialize, Serialize};

use crate::latency::Latencies;
use crate::process::field;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    /// Of the directory in which servers of our own keep their data.
    pub file_system: String,
    /// The median time of making 4 KiB durable there.
    pub sync_ms: f64,
    /// Processes that wanted to run, on average over the minute before.
    pub load_average: f64,
}

/// How often a file is synced to know how long that takes.
const SYNCS: usize = 50;

impl Machine {
    pub fn look(data_root: &Path) -> anyhow::Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Ok(Self {
            processor: processor(&read("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal:") / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&read("/proc/self/mounts"), &std::path::absolute(data_root)?),
            sync_ms: sync(data_root)?,
            load_average: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0.0),
        })
    }

    pub fn describe(&self) -> String {
        format!(
            "{} cores of {}, {} MiB, Linux {}; data on {} (a sync takes {} ms); load average before: {}",
            self.cores,
            self.processor,
            self.memory_mib,
            self.kernel,
            self.file_system,
            crate::report::number(self.sync_ms),
            self.load_average
        )
    }
}

fn processor(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|l| l.starts_with("model name"));
    line.and_then(|l| l.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// The type of the mount with the longest prefix of the path; of several at one place the last.
fn file_system(mounts: &str, path: &Path) -> String {
    let mut best = (0, "unknown");
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        if let (Some(place), Some(kind)) = (fields.next(), fields.next())
            && path.starts_with(place)
            && place.len() >= best.0
        {
            best = (place.len(), kind);
        }
    }
    best.1.to_owned()
}

fn sync(dir: &Path) -> anyhow::Result<f64> {
    let mut file = tempfile::tempfile_in(dir)?;
    let clock = Clock::system();
    let mut took = Vec::new();
    for _ in 0..SYNCS {
        let started = clock.instant();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        took.push(started.elapsed());
    }
    Ok(Latencies::new(took).percentile(50.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_on_the_innermost_mount() {
        let mounts = "overlay / overlay rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/sda /data ext4 rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/tmpfile")), "overlay");
        assert_eq!(file_system(mounts, Path::new("/data/a/b")), "ext4");
        assert_eq!(file_system("", Path::new("/")), "unknown");
    }

    #[test]
    fn the_processor_is_named_where_the_kernel_names_it() {
        assert_eq!(processor("processor: 0\nmodel name\t: Fast CPU @ 3\n"), "Fast CPU @ 3");
        assert_eq!(processor(""), std::env::consts::ARCH);
    }

    #[test]
    fn syncing_takes_time() {
        assert!(sync(&std::env::temp_dir()).unwrap() > 0.0);
    }
}
