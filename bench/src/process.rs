//! What a process uses, from /proc.

use anyhow::Context;

/// Clock ticks in a second, as /proc counts CPU time on Linux.
const TICKS: f64 = 100.0;

/// Use of some processes together at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Seconds of CPU time, user and system.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub written_bytes: u64,
    /// Voluntary context switches: how often a thread went to sleep, and so was woken.
    pub switches: u64,
}

pub fn usage(pids: &[u32]) -> anyhow::Result<Usage> {
    let mut total = Usage::default();
    for pid in pids {
        let read = |name: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{name}")).with_context(|| format!("cannot read process {pid}"))
        };
        let stat = read("stat")?;
        // The name, in parentheses, may hold anything; the fields are counted from behind it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        total.cpu_seconds += (ticks(11) + ticks(12)) / TICKS;
        let number = |text: &str, key: &str| {
            let line = text.lines().find(|l| l.starts_with(key));
            line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok())
                .unwrap_or(0)
        };
        total.resident_bytes += number(&read("status")?, "VmRSS:") * 1024;
        total.written_bytes += number(&read("io")?, "write_bytes:");
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            total.switches += number(&status, "voluntary_ctxt_switches:");
        }
    }
    Ok(total)
}
