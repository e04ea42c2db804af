//! The control groups of pods and containers on v1, hybrid and v2 hosts: making, joining, limiting, killing, removing.
//!
//! A group is named by one path from the root of every hierarchy. Containers' own groups are made by the OCI runtime;
//! this module makes their parents and clears up after both. Reading usage is in `cgroup/stats.rs`.

mod limits;
mod stats;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_clock::Clock;

use crate::container::Resources;
use crate::error::{Error, Result};
use crate::pod_runtime::Stats;
use crate::sys::PidFd;

/// How long the kernel may take to let go of a killed process.
const KILL_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct Hierarchy {
    pub(crate) mount: PathBuf,
    /// `cpu`, `memory`, ...; `name=systemd`; empty for v2.
    pub(crate) controllers: Vec<String>,
}

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

/// The host's hierarchies.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    v1: Vec<Hierarchy>,
    unified: Option<PathBuf>,
}

impl Cgroups {
    /// Reads what is mounted.
    pub(crate) fn detect() -> io::Result<Self> {
        Ok(Self::from_mountinfo(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    fn from_mountinfo(mountinfo: &str) -> Self {
        let mut found = Self {
            v1: Vec::new(),
            unified: None,
        };
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else {
                continue;
            };
            let mut mount = mount.split(' ');
            let (Some(root), Some(point)) = (mount.nth(3), mount.next()) else {
                continue;
            };
            let point = PathBuf::from(point);
            // A bind mount of a part of a hierarchy, or one outside the usual place, is someone else's.
            if root.contains("/../") || !point.starts_with("/sys/fs/cgroup") {
                continue;
            }
            let mut filesystem = filesystem.split(' ');
            match filesystem.next() {
                Some("cgroup2") if found.unified.is_none() => found.unified = Some(point),
                Some("cgroup") => {
                    let options = filesystem.nth(1).unwrap_or_default();
                    let controllers = options
                        .split(',')
                        .filter(|o| !matches!(*o, "rw" | "ro" | "xattr" | "clone_children" | "noprefix"))
                        .filter(|o| !o.starts_with("release_agent"))
                        .map(str::to_owned)
                        .collect();
                    found.v1.push(Hierarchy {
                        mount: point,
                        controllers,
                    });
                }
                _ => {}
            }
        }
        found
    }

    /// Only the unified hierarchy, with controllers.
    pub(crate) fn is_v2(&self) -> bool {
        self.v1.is_empty() && self.unified.is_some()
    }

    /// The v1 hierarchies that have controllers, for mounting into containers.
    pub(crate) fn v1(&self) -> &[Hierarchy] {
        &self.v1
    }

    fn v1_with(&self, controller: &str) -> Option<&Hierarchy> {
        self.v1.iter().find(|h| h.has(controller))
    }

    /// The directory of `group` for a v1 controller, or its only one on v2.
    fn directory(&self, controller: &str, group: &str) -> Option<PathBuf> {
        if self.is_v2() {
            return self.unified.as_ref().map(|mount| join(mount, group));
        }
        self.v1_with(controller).map(|h| join(&h.mount, group))
    }

    fn directories(&self, group: &str) -> impl Iterator<Item = PathBuf> {
        let mounts = self.v1.iter().map(|h| &h.mount).chain(self.unified.iter());
        mounts.map(|mount| join(mount, group)).collect::<Vec<_>>().into_iter()
    }

    /// Makes the group in every hierarchy, able to have limited children.
    pub(crate) fn create(&self, group: &str) -> io::Result<()> {
        for hierarchy in &self.v1 {
            if hierarchy.has("name=systemd") {
                continue;
            }
            let directory = join(&hierarchy.mount, group);
            if hierarchy.has("cpuset") {
                create_cpuset(&hierarchy.mount, group)?;
            } else {
                fs::create_dir_all(directory)?;
            }
        }
        if let Some(mount) = &self.unified {
            fs::create_dir_all(join(mount, group))?;
            if self.is_v2() {
                delegate(mount, group)?;
            }
        }
        Ok(())
    }

    /// Makes a leaf group for the shim and puts the calling process into it, where that has an effect: memory, CPU and
    /// process accounting, and the unified hierarchy, by which the whole pod can be killed at once.
    pub(crate) fn join_infra(&self, group: &str) -> io::Result<()> {
        let mut directories: Vec<PathBuf> = Vec::new();
        for controller in ["memory", "cpu", "pids"] {
            if let Some(hierarchy) = self.v1_with(controller) {
                let directory = join(&hierarchy.mount, group);
                if !directories.contains(&directory) {
                    directories.push(directory);
                }
            }
        }
        directories.extend(self.unified.iter().map(|mount| join(mount, group)));
        for directory in directories {
            fs::create_dir_all(&directory)?;
            fs::write(directory.join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// Every process in the group and below it, in any hierarchy.
    pub(crate) fn processes(&self, group: &str) -> Vec<i32> {
        let mut found = Vec::new();
        for directory in self.directories(group) {
            collect_processes(&directory, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Kills everything in the group and below it, and waits until it has ended. `spare` is left alone.
    pub(crate) fn kill(&self, group: &str, spare: Option<i32>) -> io::Result<()> {
        if spare.is_none()
            && let Some(mount) = &self.unified
        {
            // One atomic step where the kernel has it (5.14); the loop below is then only the wait.
            let _ = fs::write(join(mount, group).join("cgroup.kill"), "1");
        }
        // Each round kills what the last one's victims managed to fork. Two rounds are usual, none endless.
        for _ in 0..100 {
            let processes: Vec<i32> = self
                .processes(group)
                .into_iter()
                .filter(|pid| Some(*pid) != spare)
                .collect();
            if processes.is_empty() {
                return Ok(());
            }
            let victims: Vec<PidFd> = processes.iter().filter_map(|pid| PidFd::open(*pid).ok()).collect();
            for victim in &victims {
                let _ = victim.kill(nix::libc::SIGKILL);
            }
            for victim in &victims {
                if !victim.wait(KILL_LIMIT)? {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "a killed process does not end"));
                }
            }
        }
        Err(io::Error::other("processes keep appearing in a killed cgroup"))
    }

    /// Sends a signal to every process in the group, without waiting.
    pub(crate) fn signal(&self, group: &str, signal: i32) {
        for pid in self.processes(group) {
            let _ = PidFd::open(pid).and_then(|process| process.kill(signal));
        }
    }

    /// Removes the group and those below it, everywhere. What is not there is fine.
    pub(crate) fn remove(&self, group: &str) -> io::Result<()> {
        if group.trim_matches('/').is_empty() {
            return Ok(());
        }
        let mut result = Ok(());
        for directory in self.directories(group) {
            if let Err(error) = remove_tree(&directory) {
                result = Err(error);
            }
        }
        result
    }

    /// Removes the group if nothing is left in it, and its parents likewise, up to but not including `stop`.
    pub(crate) fn remove_if_empty(&self, group: &str) {
        for directory in self.directories(group) {
            let _ = fs::remove_dir(directory);
        }
    }

    /// How many processes of the group the kernel has killed for want of memory.
    pub(crate) fn oom_kills(&self, group: &str) -> u64 {
        let Some(directory) = self.directory("memory", group) else {
            return 0;
        };
        let file = if self.is_v2() {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        stats::keyed(&directory.join(file), "oom_kill").unwrap_or(0)
    }

    pub(crate) fn stats(&self, group: &str) -> io::Result<stats::Usage> {
        stats::read(self, group)
    }

    pub(crate) fn limit(&self, group: &str, resources: &Resources) -> io::Result<()> {
        limits::write(self, group, resources)
    }
}

/// What the group uses now.
pub(crate) async fn usage(cgroups: Cgroups, group: String, clock: Clock) -> Result<Stats> {
    let read = move || {
        let usage = cgroups.stats(&group).map_err(Error::io("read cgroup", &group))?;
        Ok(Stats {
            at: clock.now(),
            cpu_usage_ns: usage.cpu_ns,
            memory_usage: usage.memory,
            memory_working_set: usage.working_set,
            memory_rss: usage.rss,
            page_faults: usage.page_faults,
            major_page_faults: usage.major_page_faults,
            memory_limit: usage.memory_limit,
            swap_usage: usage.swap,
            pids: usage.pids,
        })
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|error| Err(Error::Failed(error.to_string())))
}

fn join(mount: &Path, group: &str) -> PathBuf {
    mount.join(group.trim_start_matches('/'))
}

fn collect_processes(directory: &Path, found: &mut Vec<i32>) {
    if let Ok(processes) = fs::read_to_string(directory.join("cgroup.procs")) {
        found.extend(
            processes
                .lines()
                .filter_map(|line| line.parse::<i32>().ok())
                .filter(|pid| *pid > 0),
        );
    }
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_processes(&entry.path(), found);
        }
    }
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    let mut pause = Duration::from_millis(1);
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The kernel counts a dead process for a moment longer than it shows it, and has no event for that.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && pause < Duration::from_secs(1) => {
                #[allow(clippy::disallowed_methods)]
                std::thread::sleep(pause);
                pause *= 2;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A v1 cpuset takes no process until it has CPUs and memory nodes, which it does not inherit by itself.
fn create_cpuset(mount: &Path, group: &str) -> io::Result<()> {
    let mut directory = mount.to_owned();
    for component in group.split('/').filter(|c| !c.is_empty()) {
        let parent = directory.clone();
        directory.push(component);
        match fs::create_dir(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if fs::read_to_string(directory.join(file))?.trim().is_empty() {
                let inherited = fs::read_to_string(parent.join(file))?;
                fs::write(directory.join(file), inherited.trim())?;
            }
        }
    }
    Ok(())
}

/// v2: hands every controller down to the group's children.
fn delegate(mount: &Path, group: &str) -> io::Result<()> {
    let mut directory = mount.to_owned();
    let mut levels = vec![directory.clone()];
    for component in group.split('/').filter(|c| !c.is_empty()) {
        directory.push(component);
        levels.push(directory.clone());
    }
    for level in levels {
        let controllers = fs::read_to_string(level.join("cgroup.controllers"))?;
        for controller in controllers.split_whitespace() {
            // One at a time: a controller that cannot be handed down (a real-time cpu group) must not cost the others.
            let _ = fs::write(level.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_has_v1_controllers_and_a_unified_hierarchy() {
        let host = Cgroups::from_mountinfo(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        );
        assert!(!host.is_v2());
        assert_eq!(host.v1.len(), 2);
        assert_eq!(host.v1[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(host.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(
            host.directory("cpuacct", "/a/b"),
            Some("/sys/fs/cgroup/cpu,cpuacct/a/b".into())
        );
    }

    #[test]
    fn a_groups_controllers_are_handed_down_on_v2() {
        let mount = tempfile::tempdir().unwrap();
        for level in ["", "kubepods", "kubepods/pod1"] {
            let level = mount.path().join(level);
            fs::create_dir_all(&level).unwrap();
            fs::write(level.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        }
        let host = Cgroups {
            v1: Vec::new(),
            unified: Some(mount.path().to_owned()),
        };
        host.create("/kubepods/pod1").unwrap();
        let last = |level: &str| fs::read_to_string(mount.path().join(level).join("cgroup.subtree_control")).unwrap();
        // One at a time, so the last one is what a plain file keeps.
        assert_eq!((last("").as_str(), last("kubepods/pod1").as_str()), ("+pids", "+pids"));
    }

    #[test]
    fn a_cpuset_inherits_its_parents_on_v1() {
        let mount = tempfile::tempdir().unwrap();
        let top = mount.path();
        for (level, cpus) in [("", "0-3"), ("a", ""), ("a/b", "")] {
            fs::create_dir_all(top.join(level)).unwrap();
            fs::write(top.join(level).join("cpuset.cpus"), cpus).unwrap();
            fs::write(
                top.join(level).join("cpuset.mems"),
                if cpus.is_empty() { "" } else { "0" },
            )
            .unwrap();
        }
        create_cpuset(top, "/a/b").unwrap();
        assert_eq!(fs::read_to_string(top.join("a/b/cpuset.cpus")).unwrap(), "0-3");
        assert_eq!(fs::read_to_string(top.join("a/b/cpuset.mems")).unwrap(), "0");
    }

    #[test]
    fn a_host_with_only_the_unified_hierarchy_is_v2() {
        let host = Cgroups::from_mountinfo("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert!(host.is_v2());
        assert_eq!(host.directory("memory", "/a"), Some("/sys/fs/cgroup/a".into()));
    }
}
