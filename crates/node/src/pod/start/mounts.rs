//! What of the pod's volumes and files a container sees, and where.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_runtime::{Device, ImageInfo, Mount, Propagation};
use k8s_openapi::api::core::v1::{Container, VolumeMount};

use crate::pod::env::Environment;
use crate::pod::expansion::expand_strict;
use crate::volume;

/// The volumes that a container can mount.
pub(super) struct Volumes {
    pub(super) paths: BTreeMap<String, PathBuf>,
    pub(super) images: BTreeMap<String, Arc<ImageInfo>>,
    /// What is mounted below a volume can be made read-only with it.
    pub(super) recursive_readonly: bool,
}

/// The file behind `terminationMessagePath`, which any user may write.
pub(super) fn message_file(pod_dir: &Path, container: &str, attempt: u32) -> Result<PathBuf, String> {
    let dir = pod_dir.join("containers").join(container);
    let path = dir.join(format!("{attempt}-termination-message"));
    std::fs::create_dir_all(&dir)
        .and_then(|()| std::fs::write(&path, ""))
        .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)))
        .map_err(|e| format!("create {}: {e}", path.display()))?;
    Ok(path)
}

pub(super) fn mounts(
    container: &Container,
    pod_dir: &Path,
    message_file: &Path,
    environment: &Environment,
    volumes: &Volumes,
    read_only: impl Fn(&str) -> bool,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        if volumes.images.contains_key(&wanted.name) {
            continue;
        }
        let volume = volumes.paths.get(&wanted.name).ok_or_else(|| {
            format!(
                "cannot find volume {:?} to mount into container {:?}",
                wanted.name, container.name
            )
        })?;
        let host_path = match sub_path(wanted, environment)? {
            Some(part) => volume::sub_path::pin(pod_dir, &container.name, index, volume, &part).map_err(|e| {
                format!(
                    "failed to prepare subPath for volumeMount {:?} of container {:?}: {e}",
                    wanted.name, container.name
                )
            })?,
            None => volume.clone(),
        };
        let readonly = wanted.read_only == Some(true) || read_only(&wanted.name);
        mounts.push(Mount {
            image: None,
            image_sub_path: String::new(),
            host_path,
            container_path: absolute(&wanted.mount_path),
            readonly,
            recursive_readonly: readonly
                && match wanted.recursive_read_only.as_deref() {
                    Some("Enabled") => true,
                    Some("IfPossible") => volumes.recursive_readonly,
                    _ => false,
                },
            propagation: match wanted.mount_propagation.as_deref() {
                Some("Bidirectional") => Propagation::Bidirectional,
                Some("HostToContainer") => Propagation::HostToContainer,
                _ => Propagation::Private,
            },
        });
    }
    let own = [
        ("/etc/hosts", pod_dir.join("etc-hosts")),
        ("/etc/hostname", pod_dir.join("hostname")),
        ("/etc/resolv.conf", pod_dir.join("resolv.conf")),
        (
            container
                .termination_message_path
                .as_deref()
                .filter(|p| !p.is_empty())
                .unwrap_or("/dev/termination-log"),
            message_file.to_owned(),
        ),
    ];
    for (path, host_path) in own {
        if !mounts.iter().any(|m| m.container_path == Path::new(path)) {
            mounts.push(Mount {
                host_path,
                container_path: absolute(path),
                ..Mount::default()
            });
        }
    }
    Ok(mounts)
}

/// Mounts of images, which are the runtime's to make.
pub(super) fn image_mounts(
    container: &Container,
    images: &BTreeMap<String, Arc<ImageInfo>>,
    environment: &Environment,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        let Some(image) = images.get(&wanted.name) else {
            continue;
        };
        mounts.push(Mount {
            image: Some(image.id.clone()),
            image_sub_path: sub_path(wanted, environment)?.unwrap_or_default(),
            container_path: absolute(&wanted.mount_path),
            readonly: true,
            ..Mount::default()
        });
    }
    Ok(mounts)
}

/// The devices of claims in block mode.
pub(super) fn devices(
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
    read_only: impl Fn(&str) -> bool,
) -> Result<Vec<Device>, String> {
    let wanted = container.volume_devices.iter().flatten();
    wanted
        .map(|device| {
            let missing = || {
                format!(
                    "cannot find volume {:?} to pass into container {:?}",
                    device.name, container.name
                )
            };
            Ok(Device {
                host_path: volumes.get(&device.name).cloned().ok_or_else(missing)?,
                container_path: absolute(&device.device_path),
                permissions: if read_only(&device.name) { "rm" } else { "rwm" }.into(),
            })
        })
        .collect()
}

fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

fn sub_path(mount: &VolumeMount, environment: &Environment) -> Result<Option<String>, String> {
    let fixed = mount.sub_path.clone().filter(|p| !p.is_empty());
    match mount.sub_path_expr.as_deref().filter(|p| !p.is_empty()) {
        None => Ok(fixed),
        Some(expression) => expand_strict(expression, |name| environment.get(name))
            .map(Some)
            .map_err(|name| format!("missing value for {name:?} in subPathExpr {expression:?}")),
    }
}
