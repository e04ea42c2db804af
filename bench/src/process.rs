//! What processes use, from /proc. CPU time is counted in nanoseconds where the kernel tells them (`schedstat`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Clock ticks in a second, as /proc counts CPU time on Linux.
const TICKS: f64 = 100.0;
/// The longest that counting in ticks may be ahead of counting in nanoseconds by rounding alone.
const ROUNDING: f64 = 0.03;

/// Counters of some processes together at one moment.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    pub resident_bytes: u64,
    /// Seconds of CPU time, user and system, of all threads that ever were.
    ticks: f64,
    written_bytes: u64,
    /// By thread id.
    threads: BTreeMap<u32, Thread>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Thread {
    nanoseconds: u64,
    /// How often it went to sleep, and so was woken.
    sleeps: u64,
}

/// What was used between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    pub cpu_seconds: f64,
    pub written_bytes: u64,
    pub wakeups: u64,
}

impl Usage {
    pub fn of(pids: &[u32]) -> anyhow::Result<Self> {
        let mut total = Self::default();
        for pid in pids {
            let folder = Path::new("/proc").join(pid.to_string());
            let read = |name: &str| {
                std::fs::read_to_string(folder.join(name)).with_context(|| format!("cannot read process {pid}"))
            };
            total.ticks += ticks(&read("stat")?) / TICKS;
            total.resident_bytes += field(&read("status")?, "VmRSS:") * 1024;
            total.written_bytes += field(&read("io")?, "write_bytes:");
            for thread in std::fs::read_dir(folder.join("task"))?.flatten() {
                let Some(tid) = thread.file_name().to_str().and_then(|n| n.parse().ok()) else {
                    continue;
                };
                // A thread may end while it is looked at.
                let read = |name: &str| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
                let one = Thread {
                    nanoseconds: first_number(&read("schedstat")),
                    sleeps: field(&read("status"), "voluntary_ctxt_switches:"),
                };
                total.threads.insert(tid, one);
            }
        }
        Ok(total)
    }

    pub fn own() -> anyhow::Result<Self> {
        Self::of(&[std::process::id()])
    }

    /// What has been used since `before` was read.
    pub fn since(&self, before: &Self) -> Spent {
        let (mut nanoseconds, mut wakeups) = (0, 0);
        for (tid, now) in &self.threads {
            let then = before.threads.get(tid).copied().unwrap_or_default();
            nanoseconds += now.nanoseconds.saturating_sub(then.nanoseconds);
            wakeups += now.sleeps.saturating_sub(then.sleeps);
        }
        let (exact, ticks) = (nanoseconds as f64 / 1e9, self.ticks - before.ticks);
        // Threads that have ended meanwhile are in the ticks alone.
        let cpu_seconds = if exact == 0.0 || ticks > exact + ROUNDING {
            ticks.max(0.0)
        } else {
            exact
        };
        Spent {
            cpu_seconds,
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
            wakeups,
        }
    }
}

/// User and system time of a `stat` file.
fn ticks(stat: &str) -> f64 {
    // The name, in parentheses, may hold anything; the fields are counted from behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let at = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    at(11) + at(12)
}

/// The number behind `key` at the start of a line.
pub fn field(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(key));
    line.map_or(0, first_number)
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

pub fn alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The processes that run a program of one of these names.
pub fn named(names: &[String]) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if name_of(&line).is_some_and(|p| names.iter().any(|n| n == p)) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

/// The processes with an argument that is a path in this directory.
pub fn running_in(directory: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let inside = |part: &[u8]| std::str::from_utf8(part).is_ok_and(|part| Path::new(part).starts_with(directory));
        if line.split(|b| *b == 0).any(inside) {
            found.push(pid);
        }
    }
    found
}

/// Where a program of this name is in `PATH`.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
}

/// What a program that has ended said, if it succeeded.
pub fn said(name: &str, output: std::io::Result<std::process::Output>) -> anyhow::Result<String> {
    let output = output.with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        anyhow::bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The file name of the program in a `cmdline`.
fn name_of(line: &[u8]) -> Option<&str> {
    let first = line.split(|b| *b == 0).next()?;
    Path::new(std::str::from_utf8(first).ok()?).file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_process_name() {
        let stat = "42 (a ) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 100 0 0";
        assert_eq!(ticks(stat), 200.0);
        assert_eq!(ticks(""), 0.0);
    }

    #[test]
    fn fields_of_status_files() {
        let status = "Name:\tx\nVmRSS:\t    1234 kB\nvoluntary_ctxt_switches:\t7\n";
        assert_eq!(field(status, "VmRSS:"), 1234);
        assert_eq!(field(status, "voluntary_ctxt_switches:"), 7);
        assert_eq!(field(status, "absent:"), 0);
    }

    #[test]
    fn a_program_is_known_by_its_file_name() {
        assert_eq!(name_of(b"/usr/bin/etcd\0--data-dir\0/x\0"), Some("etcd"));
        assert_eq!(name_of(b"kube-controller-manager\0"), Some("kube-controller-manager"));
        assert_eq!(name_of(b""), None);
    }

    fn with(ticks: f64, threads: &[(u32, u64)]) -> Usage {
        let threads = threads.iter().map(|(tid, nanoseconds)| {
            let thread = Thread {
                nanoseconds: *nanoseconds,
                sleeps: nanoseconds / 1_000_000,
            };
            (*tid, thread)
        });
        Usage {
            ticks,
            threads: threads.collect(),
            ..Usage::default()
        }
    }

    #[test]
    fn nanoseconds_are_trusted_unless_a_thread_has_ended() {
        let before = with(1.0, &[(1, 1_000_000), (2, 500_000_000)]);
        let fine = with(1.01, &[(1, 4_000_000), (2, 500_000_000), (3, 2_000_000)]).since(&before);
        assert!((fine.cpu_seconds - 0.005).abs() < 1e-9);
        assert_eq!(fine.wakeups, 5);
        let ended = with(1.5, &[(1, 4_000_000)]).since(&before);
        assert_eq!(ended.cpu_seconds, 0.5);
    }

    #[test]
    fn this_process_uses_memory_and_is_found() {
        let own = Usage::own().unwrap();
        assert!(own.resident_bytes > 0);
        assert!(Usage::of(&[u32::MAX]).is_err());
        assert_eq!(named(&["no such program".into()]), Vec::<u32>::new());
    }
}
