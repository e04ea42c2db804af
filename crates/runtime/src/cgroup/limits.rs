//! Writes limits into a group's files. It translates between the v1 and v2 ways of saying them and nothing else.

use std::fs;
use std::io;
use std::path::Path;

use super::Cgroups;
use crate::container::Resources;

pub(super) fn write(cgroups: &Cgroups, group: &str, resources: &Resources) -> io::Result<()> {
    if cgroups.is_v2() {
        write_v2(cgroups, group, resources)
    } else {
        write_v1(cgroups, group, resources)
    }
}

fn write_v1(cgroups: &Cgroups, group: &str, r: &Resources) -> io::Result<()> {
    if let Some(cpu) = cgroups.directory("cpu", group) {
        put(&cpu, "cpu.shares", r.cpu_shares)?;
        put(&cpu, "cpu.cfs_period_us", r.cpu_period.filter(|period| *period > 0))?;
        put(&cpu, "cpu.cfs_quota_us", r.cpu_quota)?;
    }
    if let Some(cpuset) = cgroups.directory("cpuset", group) {
        put(
            &cpuset,
            "cpuset.cpus",
            r.cpuset_cpus.as_deref().filter(|v| !v.is_empty()),
        )?;
        put(
            &cpuset,
            "cpuset.mems",
            r.cpuset_mems.as_deref().filter(|v| !v.is_empty()),
        )?;
    }
    if let Some(memory) = cgroups.directory("memory", group) {
        let swap_file = memory.join("memory.memsw.limit_in_bytes").exists();
        let swap = r.memory_swap_limit.filter(|_| swap_file);
        let current = fs::read_to_string(memory.join("memory.memsw.limit_in_bytes"))
            .ok()
            .and_then(|limit| limit.trim().parse::<i64>().ok());
        // Memory may never exceed memory and swap together, so the order depends on the direction.
        match (r.memory_limit, swap, current) {
            (Some(limit), Some(swap), Some(current)) if swap < 0 || swap > current => {
                put(&memory, "memory.memsw.limit_in_bytes", Some(swap))?;
                put(&memory, "memory.limit_in_bytes", Some(limit))?;
            }
            (limit, swap, _) => {
                put(&memory, "memory.limit_in_bytes", limit)?;
                put(&memory, "memory.memsw.limit_in_bytes", swap)?;
            }
        }
    }
    if let Some(pids) = cgroups.directory("pids", group) {
        put(&pids, "pids.max", r.pids_limit.map(limit_or_max))?;
    }
    if let Some(hugetlb) = cgroups.directory("hugetlb", group) {
        for (size, limit) in &r.hugepage_limits {
            put(&hugetlb, &format!("hugetlb.{size}.limit_in_bytes"), Some(limit))?;
        }
    }
    Ok(())
}

fn write_v2(cgroups: &Cgroups, group: &str, r: &Resources) -> io::Result<()> {
    let Some(directory) = cgroups.directory("", group) else {
        return Ok(());
    };
    put(&directory, "cpu.weight", r.cpu_shares.map(weight))?;
    if r.cpu_quota.is_some() || r.cpu_period.is_some() {
        let quota = r
            .cpu_quota
            .filter(|quota| *quota > 0)
            .map_or("max".to_owned(), |quota| quota.to_string());
        put(
            &directory,
            "cpu.max",
            Some(format!("{quota} {}", r.cpu_period.unwrap_or(100_000))),
        )?;
    }
    put(
        &directory,
        "cpuset.cpus",
        r.cpuset_cpus.as_deref().filter(|v| !v.is_empty()),
    )?;
    put(
        &directory,
        "cpuset.mems",
        r.cpuset_mems.as_deref().filter(|v| !v.is_empty()),
    )?;
    put(&directory, "memory.max", r.memory_limit.map(limit_or_max))?;
    if let (Some(limit), Some(both)) = (r.memory_limit, r.memory_swap_limit) {
        // v2 limits swap alone where v1 limits both together.
        put(
            &directory,
            "memory.swap.max",
            Some(limit_or_max(if both < 0 { -1 } else { (both - limit).max(0) })),
        )?;
    }
    put(&directory, "pids.max", r.pids_limit.map(limit_or_max))?;
    for (size, limit) in &r.hugepage_limits {
        put(&directory, &format!("hugetlb.{size}.max"), Some(limit))?;
    }
    for (file, value) in &r.unified {
        if file.contains('/') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a cgroup file's name holds no slash",
            ));
        }
        put(&directory, file, Some(value))?;
    }
    Ok(())
}

/// CPU shares (2..=262144) on the scale of weights (1..=10000).
pub(crate) fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn limit_or_max(limit: i64) -> String {
    if limit <= 0 {
        "max".to_owned()
    } else {
        limit.to_string()
    }
}

fn put(directory: &Path, file: &str, value: Option<impl ToString>) -> io::Result<()> {
    let Some(value) = value else { return Ok(()) };
    fs::write(directory.join(file), value.to_string())
        .map_err(|error| io::Error::new(error.kind(), format!("write {file}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources() -> Resources {
        Resources {
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            memory_limit: Some(64 << 20),
            memory_swap_limit: Some(96 << 20),
            pids_limit: Some(50),
            hugepage_limits: [("2MB".to_owned(), 4 << 20)].into(),
            ..Resources::default()
        }
    }

    #[test]
    fn limits_are_said_in_v2s_words() {
        let mount = tempfile::tempdir().unwrap();
        fs::create_dir(mount.path().join("g")).unwrap();
        let host = Cgroups {
            v1: Vec::new(),
            unified: Some(mount.path().to_owned()),
        };
        let mut limits = resources();
        limits.unified.insert("memory.high".into(), "1000".into());
        write(&host, "/g", &limits).unwrap();
        let file = |name: &str| fs::read_to_string(mount.path().join("g").join(name)).unwrap();
        for (name, text) in [
            ("cpu.weight", "39"),
            ("cpu.max", "50000 100000"),
            ("memory.max", "67108864"),
            ("memory.swap.max", "33554432"),
            ("pids.max", "50"),
            ("hugetlb.2MB.max", "4194304"),
            ("memory.high", "1000"),
        ] {
            assert_eq!(file(name), text, "{name}");
        }
        let none = Resources {
            cpu_quota: Some(-1),
            memory_limit: Some(-1),
            memory_swap_limit: Some(-1),
            pids_limit: Some(-1),
            ..Resources::default()
        };
        write(&host, "/g", &none).unwrap();
        assert_eq!(file("cpu.max"), "max 100000");
        for name in ["memory.max", "memory.swap.max", "pids.max"] {
            assert_eq!(file(name), "max", "{name}");
        }
        limits.unified = [("../x".to_owned(), String::new())].into();
        assert!(write(&host, "/g", &limits).is_err());
    }

    #[test]
    fn limits_are_said_in_v1s_words_each_to_its_controller() {
        let mount = tempfile::tempdir().unwrap();
        let hierarchy = |name: &str| {
            fs::create_dir_all(mount.path().join(name).join("g")).unwrap();
            super::super::Hierarchy {
                mount: mount.path().join(name),
                controllers: vec![name.to_owned()],
            }
        };
        let host = Cgroups {
            v1: ["cpu", "memory", "pids", "hugetlb"].map(hierarchy).into(),
            unified: None,
        };
        let swap = mount.path().join("memory/g/memory.memsw.limit_in_bytes");
        fs::write(&swap, "9223372036854771712").unwrap();
        write(&host, "/g", &resources()).unwrap();
        let file = |name: &str| fs::read_to_string(mount.path().join(name)).unwrap();
        for (name, text) in [
            ("cpu/g/cpu.shares", "1024"),
            ("cpu/g/cpu.cfs_quota_us", "50000"),
            ("cpu/g/cpu.cfs_period_us", "100000"),
            ("memory/g/memory.limit_in_bytes", "67108864"),
            ("memory/g/memory.memsw.limit_in_bytes", "100663296"),
            ("pids/g/pids.max", "50"),
            ("hugetlb/g/hugetlb.2MB.limit_in_bytes", "4194304"),
        ] {
            assert_eq!(file(name), text, "{name}");
        }
    }

    #[test]
    fn shares_map_onto_the_whole_scale_of_weights() {
        assert_eq!(weight(0), 1);
        assert_eq!(weight(2), 1);
        assert_eq!(weight(1024), 39);
        assert_eq!(weight(262_144), 10_000);
    }
}
