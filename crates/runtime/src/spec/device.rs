//! Device nodes and the rules of the devices cgroup. Looks devices up on the host.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use serde_json::{Value, json};

use crate::container::ContainerConfig;
use crate::error::{Error, Result};

/// Places in `/dev` that are file systems or links of their own.
const SKIPPED: &[&str] = &["pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"];

struct Node {
    host: PathBuf,
    path: PathBuf,
    kind: &'static str,
    major: u64,
    minor: u64,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Node {
    fn at(host: &Path, container: &Path) -> Result<Option<Self>> {
        let metadata = fs::metadata(host).map_err(Error::io("look up device", host))?;
        let kind = metadata.file_type();
        let kind = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => "c",
            (_, true) => "b",
            _ => return Ok(None),
        };
        Ok(Some(Self {
            host: host.to_owned(),
            path: container.to_owned(),
            kind,
            major: major(metadata.rdev()),
            minor: minor(metadata.rdev()),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
        }))
    }

    fn spec(&self) -> Value {
        json!({
            "path": self.path, "type": self.kind, "major": self.major, "minor": self.minor,
            "fileMode": self.mode, "uid": self.uid, "gid": self.gid,
        })
    }
}

/// Nodes to make in the container's `/dev`, besides the runtime's usual ones. In a pod with users of its own nobody can
/// make any: there the runtime binds those of the host by the same name, and the ones asked for are mounts ([`binds`]).
pub(crate) fn nodes(config: &ContainerConfig, own_users: bool) -> Result<Vec<Value>> {
    let mut nodes = Vec::new();
    if config.security.privileged {
        host_devices(Path::new("/dev"), &mut nodes);
    }
    for (node, _) in requested(config)?.into_iter().filter(|_| !own_users) {
        nodes.retain(|known: &Node| known.path != node.path);
        nodes.push(node);
    }
    Ok(nodes.iter().map(Node::spec).collect())
}

/// The devices that the configuration names, by the host's node and the container's.
pub(crate) fn binds(config: &ContainerConfig) -> Result<Vec<(PathBuf, PathBuf)>> {
    Ok(requested(config)?
        .into_iter()
        .map(|(node, _)| (node.host, node.path))
        .collect())
}

/// Who may use which device: everyone the harmless ones, the rest as asked.
pub(crate) fn rules(config: &ContainerConfig) -> Result<Vec<Value>> {
    if config.security.privileged {
        return Ok(vec![json!({ "allow": true, "access": "rwm" })]);
    }
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    // Nodes may be made of anything, which gives nobody the device behind them.
    for kind in ["c", "b"] {
        rules.push(json!({ "allow": true, "type": kind, "access": "m" }));
    }
    // null, zero, full, random, urandom, tty, ptmx, and all pseudo-terminals
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)] {
        rules.push(json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" }));
    }
    rules.push(json!({ "allow": true, "type": "c", "major": 136, "access": "rwm" }));
    for (node, access) in requested(config)? {
        rules.push(json!({
            "allow": true, "type": node.kind, "major": node.major, "minor": node.minor, "access": access,
        }));
    }
    Ok(rules)
}

/// The devices that the configuration names; a directory stands for all devices in it.
fn requested(config: &ContainerConfig) -> Result<Vec<(Node, String)>> {
    let mut found = Vec::new();
    for device in &config.devices {
        let access = if device.permissions.is_empty() {
            "rwm"
        } else {
            &device.permissions
        };
        if !access.bytes().all(|b| b"rwm".contains(&b)) {
            let reason = format!("device permissions {access:?} are not made of r, w and m");
            return Err(Error::InvalidConfig(reason));
        }
        let inside = if device.container_path.as_os_str().is_empty() {
            &device.host_path
        } else {
            &device.container_path
        };
        if device.host_path.is_dir() {
            let mut nodes = Vec::new();
            host_devices(&device.host_path, &mut nodes);
            for mut node in nodes {
                if let Ok(rest) = node.path.strip_prefix(&device.host_path) {
                    node.path = inside.join(rest);
                }
                found.push((node, access.to_owned()));
            }
            continue;
        }
        match Node::at(&device.host_path, inside)? {
            Some(node) => found.push((node, access.to_owned())),
            None => {
                let path = device.host_path.display();
                return Err(Error::InvalidConfig(format!("{path} is not a device")));
            }
        }
    }
    Ok(found)
}

fn host_devices(directory: &Path, found: &mut Vec<Node>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
            host_devices(&path, found);
        } else if (kind.is_char_device() || kind.is_block_device())
            && name != "console"
            && let Ok(Some(node)) = Node::at(&path, &path)
        {
            found.push(node);
        }
    }
}
