//! The container's mounts: what every container has, then its volumes, parents before children.

use std::path::{Component, Path};

use serde_json::{Value, json};

use super::Input;
use crate::container::{Mount, Propagation};
use crate::error::{Error, Result};

pub(crate) fn mounts(input: &Input<'_>) -> Result<Vec<Value>> {
    let privileged = input.config.security.privileged;
    let mut list = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }),
        json!({
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        }),
        json!({
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        }),
        json!({
            "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"],
        }),
        json!({
            "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", if privileged { "rw" } else { "ro" }],
        }),
        json!({
            "destination": "/dev/shm", "type": "bind", "source": input.shm,
            "options": ["rbind", "nosuid", "nodev", "noexec", "rw"],
        }),
    ];
    list.extend(cgroup(input, privileged));
    // A volume takes the place of what would be there otherwise.
    let own: Vec<String> = input
        .config
        .mounts
        .iter()
        .map(|mount| clean(&mount.container_path))
        .collect();
    list.retain(|mount| !own.iter().any(|path| mount["destination"] == json!(path)));

    let mut volumes: Vec<&Mount> = input.config.mounts.iter().collect();
    volumes.sort_by_key(|mount| mount.container_path.components().count());
    for volume in volumes {
        list.push(bind(volume)?);
    }
    if input.sandbox.user_namespace.is_some() {
        for (host, inside) in super::device::binds(input.config)? {
            list.push(json!({
                "destination": clean(&inside), "type": "bind", "source": host,
                "options": ["bind", "nosuid", "noexec", "rw"],
            }));
        }
    }
    Ok(list)
}

/// v2: the container's own part of the hierarchy. v1: each controller's, by bind mounts of what the runtime has made.
fn cgroup(input: &Input<'_>, privileged: bool) -> Vec<Value> {
    let access = if privileged { "rw" } else { "ro" };
    if input.cgroups.is_v2() {
        return vec![json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", access],
        })];
    }
    let mut list = vec![json!({
        "destination": "/sys/fs/cgroup", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "noexec", "nodev", "mode=755"],
    })];
    for hierarchy in input.cgroups.v1() {
        if hierarchy
            .controllers
            .iter()
            .any(|controller| controller.starts_with("name="))
        {
            continue;
        }
        let source = hierarchy.mount.join(input.cgroup.trim_start_matches('/'));
        let mut names: Vec<&str> = hierarchy.controllers.iter().map(String::as_str).collect();
        if names.len() > 1 {
            names.extend(hierarchy.mount.file_name().and_then(|name| name.to_str()));
        }
        for name in names {
            list.push(json!({
                "destination": format!("/sys/fs/cgroup/{name}"), "type": "bind", "source": source,
                "options": ["bind", "nosuid", "noexec", "nodev", access],
            }));
        }
    }
    list
}

fn bind(mount: &Mount) -> Result<Value> {
    if !mount.container_path.is_absolute() {
        let path = mount.container_path.display();
        return Err(Error::InvalidConfig(format!("mount path {path} is not absolute")));
    }
    let propagation = match mount.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let mut options = vec!["rbind", propagation];
    match (mount.readonly, mount.recursive_readonly) {
        (true, true) => options.extend(["ro", "rro"]),
        (true, false) => options.push("ro"),
        _ => options.push("rw"),
    }
    if mount.image.is_some() {
        options.extend(["noexec", "nosuid", "nodev"]);
    }
    Ok(json!({
        "destination": clean(&mount.container_path), "type": "bind", "source": mount.host_path, "options": options,
    }))
}

/// Without `.`, `..` and doubled or trailing slashes.
fn clean(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(clean(Path::new("/a//b/./c/../d/")), "/a/b/d");
        assert_eq!(clean(Path::new("/")), "/");
    }

    #[test]
    fn a_relative_mount_path_is_refused() {
        assert!(
            bind(&Mount {
                container_path: "data".into(),
                ..Mount::default()
            })
            .is_err()
        );
    }
}
