//! What the machine must have before a node can run containers: checked first, so that what is missing is said plainly.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::bail;

/// Everything a node needs: root, namespaces, overlayfs, cgroups, bridge and veth.
pub fn node() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a node that runs containers needs root; run this with sudo, or start without a node: --no-node");
    }
    let mut missing = Vec::new();
    for namespace in ["net", "ipc", "uts", "pid", "mnt"] {
        if !Path::new("/proc/self/ns").join(namespace).exists() {
            missing.push(format!("{namespace} namespaces"));
        }
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has_overlay = filesystems
        .lines()
        .any(|l| l.trim_start().trim_start_matches("nodev").trim() == "overlay");
    if !has_overlay && !Path::new("/sys/module/overlay").exists() && !module_available("overlay") {
        missing.push("overlayfs (modprobe overlay)".to_owned());
    }
    if !Path::new("/sys/fs/cgroup").is_dir() {
        missing.push("cgroups (nothing is mounted at /sys/fs/cgroup)".to_owned());
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "this kernel lacks what containers need: {}; or start without a node: --no-node",
        missing.join(", ")
    )
}

/// Whether a module of this name could be loaded.
fn module_available(name: &str) -> bool {
    let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") else {
        return false;
    };
    let index = Path::new("/lib/modules").join(release.trim()).join("modules.dep");
    std::fs::read_to_string(index).is_ok_and(|text| text.contains(&format!("/{name}.ko")))
}

/// That nothing listens on the port yet.
pub fn port(address: IpAddr, port: u16) -> anyhow::Result<()> {
    if port == 0 {
        return Ok(());
    }
    match TcpListener::bind(SocketAddr::new(address, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("port {port} is in use by another program; choose another with --port, or --port 0 for any free one")
        }
        Err(error) => bail!("cannot listen on {address}:{port}: {error}; choose another --bind-address or --port"),
    }
}
