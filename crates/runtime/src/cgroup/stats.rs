//! Reads what a group uses. It parses the kernel's files and keeps nothing.

use std::fs;
use std::io;
use std::path::Path;

use super::Cgroups;

#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    pub(crate) memory: u64,
    pub(crate) working_set: u64,
    pub(crate) rss: u64,
    pub(crate) page_faults: u64,
    pub(crate) major_page_faults: u64,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) swap: u64,
    pub(crate) pids: u64,
}

/// v1 says "no limit" with a page-aligned maximum.
const NO_LIMIT: u64 = 1 << 62;

pub(super) fn read(cgroups: &Cgroups, group: &str) -> io::Result<Usage> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "no memory controller");
    let memory = cgroups.directory("memory", group).ok_or_else(missing)?;
    let mut usage = Usage::default();
    if cgroups.is_v2() {
        usage.memory = number(&memory.join("memory.current"))?;
        let stat = fs::read_to_string(memory.join("memory.stat"))?;
        usage.working_set = usage.memory.saturating_sub(value(&stat, "inactive_file").unwrap_or(0));
        usage.rss = value(&stat, "anon").unwrap_or(0);
        usage.page_faults = value(&stat, "pgfault").unwrap_or(0);
        usage.major_page_faults = value(&stat, "pgmajfault").unwrap_or(0);
        usage.memory_limit = number(&memory.join("memory.max")).ok();
        usage.swap = number(&memory.join("memory.swap.current")).unwrap_or(0);
        usage.cpu_ns = keyed(&memory.join("cpu.stat"), "usage_usec").unwrap_or(0) * 1000;
        usage.pids = number(&memory.join("pids.current")).unwrap_or(0);
        return Ok(usage);
    }
    usage.memory = number(&memory.join("memory.usage_in_bytes"))?;
    let stat = fs::read_to_string(memory.join("memory.stat"))?;
    usage.working_set = usage
        .memory
        .saturating_sub(value(&stat, "total_inactive_file").unwrap_or(0));
    usage.rss = value(&stat, "total_rss").unwrap_or(0);
    usage.page_faults = value(&stat, "total_pgfault").unwrap_or(0);
    usage.major_page_faults = value(&stat, "total_pgmajfault").unwrap_or(0);
    usage.swap = value(&stat, "total_swap").unwrap_or(0);
    usage.memory_limit = number(&memory.join("memory.limit_in_bytes"))
        .ok()
        .filter(|limit| *limit < NO_LIMIT);
    if let Some(cpu) = cgroups.directory("cpuacct", group) {
        usage.cpu_ns = number(&cpu.join("cpuacct.usage")).unwrap_or(0);
    }
    if let Some(pids) = cgroups.directory("pids", group) {
        usage.pids = number(&pids.join("pids.current")).unwrap_or(0);
    }
    Ok(usage)
}

/// A file that holds one number.
fn number(file: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(file)?;
    text.trim()
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The number after `key` in a file of keys and numbers.
pub(super) fn keyed(file: &Path, key: &str) -> Option<u64> {
    value(&fs::read_to_string(file).ok()?, key)
}

fn value(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_in_v2s_words() {
        let mount = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("memory.current", "1000\n"),
            (
                "memory.stat",
                "anon 600\nfile 400\ninactive_file 300\npgfault 7\npgmajfault 2\n",
            ),
            ("memory.max", "max\n"),
            ("memory.swap.current", "5\n"),
            ("cpu.stat", "usage_usec 42\nuser_usec 40\n"),
            ("pids.current", "3\n"),
        ] {
            fs::write(mount.path().join(file), text).unwrap();
        }
        let host = Cgroups {
            v1: Vec::new(),
            unified: Some(mount.path().to_owned()),
        };
        let usage = read(&host, "/").unwrap();
        assert_eq!((usage.memory, usage.working_set, usage.rss), (1000, 700, 600));
        assert_eq!((usage.page_faults, usage.major_page_faults, usage.swap), (7, 2, 5));
        assert_eq!((usage.cpu_ns, usage.pids, usage.memory_limit), (42_000, 3, None));
        fs::write(mount.path().join("memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        assert_eq!(host.oom_kills("/"), 1);
    }

    #[test]
    fn a_key_is_matched_whole() {
        assert_eq!(
            value("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"),
            Some(3)
        );
        assert_eq!(value("oom_kill_disable 1\n", "oom_kill"), None);
    }
}
