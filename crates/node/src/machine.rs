//! What the machine is: its resources, its names, its kernel. Reads the system; decides nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What a node object tells of its machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) hostname: String,
    pub(crate) cpus: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    /// Bytes by name (`hugepages-2Mi`).
    pub(crate) hugepages: BTreeMap<String, u64>,
    pub(crate) architecture: &'static str,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) swap_bytes: u64,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

impl Machine {
    /// Reads it; `data_dir` is on the disk that counts.
    pub(crate) fn read(data_dir: &Path) -> Self {
        let memory = Memory::read();
        Self {
            hostname: read("/proc/sys/kernel/hostname").to_lowercase(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory.total,
            swap_bytes: memory.swap_total,
            disk_bytes: Disk::read(data_dir).total,
            hugepages: hugepages(),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
            kernel: read("/proc/sys/kernel/osrelease"),
            os_image: os_image(&read("/etc/os-release")),
            machine_id: Some(read("/etc/machine-id"))
                .filter(|id| !id.is_empty())
                .unwrap_or_else(|| read("/var/lib/dbus/machine-id")),
            system_uuid: Some(read("/sys/class/dmi/id/product_uuid"))
                .filter(|id| !id.is_empty())
                .unwrap_or_else(|| read("/etc/machine-id")),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
        }
    }

    /// Resources as a node's capacity.
    pub(crate) fn capacity(&self, pods: u32) -> BTreeMap<String, Quantity> {
        let kib = |bytes: u64| Quantity(format!("{}Ki", bytes / 1024));
        let mut capacity: BTreeMap<String, Quantity> = [
            ("cpu", Quantity(self.cpus.to_string())),
            ("memory", kib(self.memory_bytes)),
            ("ephemeral-storage", kib(self.disk_bytes)),
            ("pods", Quantity(pods.to_string())),
        ]
        .into_iter()
        .map(|(name, amount)| (name.to_owned(), amount))
        .collect();
        for size in ["hugepages-1Gi", "hugepages-2Mi"] {
            let bytes = self.hugepages.get(size).copied().unwrap_or(0);
            let amount = if bytes == 0 {
                "0".into()
            } else {
                format!("{}Mi", bytes >> 20)
            };
            capacity.insert(size.to_owned(), Quantity(amount));
        }
        capacity
    }
}

fn os_image(release: &str) -> String {
    let value = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.map_or_else(|| "Linux".to_owned(), |v| v.trim_matches('"').to_owned())
}

fn hugepages() -> BTreeMap<String, u64> {
    let dirs = std::fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten();
    let sizes = dirs.filter_map(|dir| {
        let kib: u64 = dir
            .file_name()
            .to_str()?
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let count: u64 = std::fs::read_to_string(dir.path().join("nr_hugepages"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let name = if kib >= 1 << 20 {
            format!("hugepages-{}Gi", kib >> 20)
        } else {
            format!("hugepages-{}Mi", kib >> 10)
        };
        Some((name, kib * 1024 * count))
    });
    sizes.collect()
}

/// Memory in bytes, as it is now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) swap_total: u64,
}

impl Memory {
    pub(crate) fn read() -> Self {
        Self::parse(&read("/proc/meminfo"))
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            let kib: u64 = line
                .and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok())
                .unwrap_or(0);
            kib * 1024
        };
        Self {
            total: field("MemTotal"),
            swap_total: field("SwapTotal"),
        }
    }
}

/// A file system's bytes and inodes, as they are now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) total: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

impl Disk {
    pub(crate) fn read(path: &Path) -> Self {
        let Ok(stat) = nix::sys::statvfs::statvfs(path) else {
            return Self::default();
        };
        let block = stat.fragment_size();
        Self {
            total: stat.blocks() * block,
            available: stat.blocks_available() * block,
            inodes: stat.files(),
            inodes_free: stat.files_available(),
        }
    }
}

/// Process ids: how many there may be and how many there are.
pub(crate) fn pids() -> (u64, u64) {
    let most = read("/proc/sys/kernel/pid_max").parse().unwrap_or(u64::MAX);
    let threads = read("/proc/loadavg")
        .split(' ')
        .nth(3)
        .and_then(|f| f.split('/').nth(1)?.parse().ok())
        .unwrap_or(0);
    (most, threads)
}

/// The address this machine speaks to the world from; the loopback if it has no way out. Nothing is sent.
pub fn own_address() -> IpAddr {
    let by_route = || {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
        socket.connect(("192.0.2.1", 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    by_route()
        .filter(|ip| !ip.is_unspecified())
        .unwrap_or(IpAddr::from([127, 0, 0, 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_as_it_is() {
        let machine = Machine::read(Path::new("/"));
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && machine.disk_bytes > 0);
        assert!(!machine.kernel.is_empty() && !machine.boot_id.is_empty());
        let capacity = machine.capacity(110);
        assert_eq!(capacity["pods"].0, "110");
        assert!(capacity["memory"].0.ends_with("Ki"));
        assert!(capacity.contains_key("hugepages-2Mi"));
    }

    #[test]
    fn files_of_the_system_are_parsed() {
        let memory = Memory::parse("MemTotal:       100 kB\nMemAvailable:    50 kB\nSwapTotal:       0 kB");
        assert_eq!((memory.total, memory.swap_total), (102_400, 0));
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Some Linux 1\"\n"), "Some Linux 1");
    }
}
