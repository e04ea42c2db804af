//! The machine's own counters, and this process's: from `/proc`, which is the same on all versions of control groups.

use std::path::Path;

/// Nanoseconds of one tick in `/proc`: 100 a second on every architecture there is.
const TICK: u64 = 10_000_000;

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The number after a key and a colon or a space.
fn value(text: &str, key: &str) -> u64 {
    let found = text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        rest.strip_prefix([':', ' '])?.split_whitespace().next()?.parse().ok()
    });
    found.unwrap_or(0)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MachineUsage {
    pub(super) cpu_ns: u64,
    pub(super) memory: u64,
    pub(super) working_set: u64,
    pub(crate) total: u64,
    /// What is left beside the working set: upstream's `memory.available`.
    pub(crate) available: u64,
    pub(super) rss: u64,
    pub(super) page_faults: u64,
    pub(super) major_page_faults: u64,
    pub(super) swap: u64,
    pub(super) swap_available: u64,
    /// Seconds since the epoch.
    pub(super) booted_at: i64,
}

impl MachineUsage {
    pub(crate) fn read() -> Self {
        Self::parse(&read("/proc/stat"), &read("/proc/meminfo"), &read("/proc/vmstat"))
    }

    fn parse(stat: &str, meminfo: &str, vmstat: &str) -> Self {
        let ticks: Vec<u64> = stat
            .lines()
            .find_map(|l| l.strip_prefix("cpu "))
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        // user nice system idle iowait irq softirq steal; what guests use is part of user.
        let busy = |index: &usize| ticks.get(*index).copied().unwrap_or(0);
        let kib = |key| value(meminfo, key) * 1024;
        let memory = kib("MemTotal").saturating_sub(kib("MemFree"));
        let working_set = memory.saturating_sub(kib("Inactive(file)"));
        let swap = kib("SwapTotal").saturating_sub(kib("SwapFree"));
        Self {
            cpu_ns: [0, 1, 2, 5, 6, 7].iter().map(busy).sum::<u64>() * TICK,
            memory,
            working_set,
            total: kib("MemTotal"),
            available: kib("MemTotal").saturating_sub(working_set),
            rss: kib("AnonPages"),
            page_faults: value(vmstat, "pgfault"),
            major_page_faults: value(vmstat, "pgmajfault"),
            swap,
            swap_available: kib("SwapFree"),
            booted_at: i64::try_from(value(stat, "btime")).unwrap_or(0),
        }
    }
}

/// This process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_ns: u64,
    pub(super) rss: u64,
    pub(super) page_faults: u64,
    pub(super) major_page_faults: u64,
    /// Seconds since the epoch.
    pub(super) started_at: f64,
    pub(super) open_files: usize,
}

impl Process {
    pub(super) fn read() -> Self {
        let stat = read("/proc/self/stat");
        // The name is in parentheses and may hold anything.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let field = |number: usize| -> u64 { fields.get(number).and_then(|f| f.parse().ok()).unwrap_or(0) };
        let booted = value(&read("/proc/stat"), "btime");
        Self {
            cpu_ns: (field(11) + field(12)) * TICK,
            rss: value(&read("/proc/self/status"), "VmRSS") * 1024,
            page_faults: field(7),
            major_page_faults: field(9),
            started_at: booted as f64 + field(19) as f64 / 100.0,
            open_files: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        }
    }
}

/// What an interface has carried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) received: Traffic,
    pub(super) sent: Traffic,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) bytes: u64,
    pub(super) packets: u64,
    pub(super) errors: u64,
    pub(super) dropped: u64,
}

/// The interfaces of a process's network, without the loopback.
pub(super) fn interfaces(pid: Option<i32>) -> Vec<Interface> {
    let process = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    parse_interfaces(&read(format!("/proc/{process}/net/dev")))
}

fn parse_interfaces(dev: &str) -> Vec<Interface> {
    let lines = dev.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, rest)| (name.trim(), rest))
        .filter(|(name, _)| *name != "lo")
        .map(|(name, rest)| {
            let numbers: Vec<u64> = rest.split_whitespace().filter_map(|n| n.parse().ok()).collect();
            let traffic = |from: usize| {
                let at = |index: usize| numbers.get(from + index).copied().unwrap_or(0);
                Traffic {
                    bytes: at(0),
                    packets: at(1),
                    errors: at(2),
                    dropped: at(3),
                }
            };
            Interface {
                name: name.to_owned(),
                received: traffic(0),
                sent: traffic(8),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_files_are_read_by_their_keys() {
        let usage = MachineUsage::parse(
            "cpu  10 1 5 1000 7 2 3 4 9 0\ncpu0 1 1 1 1\nbtime 1700000000\n",
            "MemTotal: 1000 kB\nMemFree: 300 kB\nInactive: 9 kB\nInactive(file): 200 kB\nAnonPages: 50 kB\n\
             SwapTotal: 10 kB\nSwapFree: 4 kB\n",
            "pgfault 77\npgmajfault 3\n",
        );
        assert_eq!(usage.cpu_ns, 25 * TICK);
        assert_eq!((usage.memory, usage.working_set), (700 * 1024, 500 * 1024));
        assert_eq!((usage.available, usage.swap), (500 * 1024, 6 * 1024));
        assert_eq!((usage.page_faults, usage.major_page_faults), (77, 3));
        assert_eq!(usage.booted_at, 1_700_000_000);
    }

    #[test]
    fn interfaces_are_read_without_the_loopback() {
        let dev = "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 4 0 0 0 0 20 5 6 7 0 0 0 0\n";
        let found = parse_interfaces(dev);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].received.bytes, found[0].received.dropped), (10, 4));
        assert_eq!((found[0].sent.bytes, found[0].sent.errors), (20, 6));
    }

    #[test]
    fn this_process_is_found() {
        let process = Process::read();
        assert!(process.rss > 0 && process.open_files > 0 && process.started_at > 1.0);
    }
}
