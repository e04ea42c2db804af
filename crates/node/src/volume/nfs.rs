//! `nfs`: a directory of an NFS server, mounted by the kernel itself. It needs a kernel with an NFS client and no programs.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::NFSVolumeSource;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::{Setup, Volume, io, mounts};

#[async_trait]
impl Volume for NFSVolumeSource {
    async fn set_up(&self, name: &str, setup: &Setup<'_>) -> Result<PathBuf, String> {
        mounted(self, &[], &setup.dir("nfs", name)).await
    }
}

/// Mounts it at `dir`, unless it is there. `options` are those of a PersistentVolume.
pub(super) async fn mounted(source: &NFSVolumeSource, options: &[String], dir: &Path) -> Result<PathBuf, String> {
    std::fs::create_dir_all(dir).map_err(io("create", dir))?;
    if mounts::is_mounted(dir).map_err(io("look up", dir))? {
        return Ok(dir.to_owned());
    }
    let server = source.server.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((server, 2049)).await;
    let address = found.ok().and_then(|mut all| all.next());
    let address = address
        .ok_or_else(|| format!("the NFS server {server:?} has no address"))?
        .ip();
    let plan = plan(source, options, address)?;
    let dir = dir.to_owned();
    // The server may be long in answering.
    let mounting = tokio::task::spawn_blocking(move || {
        let done = plan.attempts.iter().map(|data| {
            mount(
                Some(plan.source.as_str()),
                &dir,
                Some(plan.kind),
                plan.flags,
                Some(data.as_str()),
            )
        });
        let mut last = Errno::EINVAL;
        for result in done {
            match result {
                Ok(()) => return Ok(dir),
                // Another version of the protocol may be spoken there.
                Err(error @ (Errno::EPROTONOSUPPORT | Errno::EINVAL | Errno::EPROTO)) => last = error,
                Err(error) => {
                    last = error;
                    break;
                }
            }
        }
        Err(match last {
            Errno::ENODEV => "the node's kernel has no NFS client (is its module nfs loaded?)".to_owned(),
            error => format!("mount {} with {:?}: {error}", plan.source, plan.attempts),
        })
    });
    mounting
        .await
        .map_err(|error| format!("mounting was cut off: {error}"))?
}

struct Plan {
    source: String,
    kind: &'static str,
    flags: MsFlags,
    /// The kernel's options, one text for each version of the protocol that is tried.
    attempts: Vec<String>,
}

fn plan(source: &NFSVolumeSource, options: &[String], address: IpAddr) -> Result<Plan, String> {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, source.read_only == Some(true));
    let mut rest = Vec::new();
    for option in options.iter().flat_map(|text| text.split(',')) {
        match option {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            // What is so anyway, and what only mount's own program understands.
            "rw" | "nosuid" | "nodev" | "defaults" | "_netdev" | "auto" | "noauto" | "nofail" | "" => {}
            option if option.starts_with("addr=") => {
                return Err(format!("mount option {option:?} is not the pod's to set"));
            }
            option => rest.push(option.replace("nfsvers=", "vers=")),
        }
    }
    rest.push(format!("addr={address}"));
    let chosen = rest.iter().any(|option| option.starts_with("vers="));
    let versions: &[&str] = if chosen {
        &[""]
    } else {
        &["vers=4.2,", "vers=4.1,", "vers=4.0,", "vers=3,"]
    };
    let host = match address {
        IpAddr::V6(_) => format!("[{address}]"),
        IpAddr::V4(_) => address.to_string(),
    };
    Ok(Plan {
        source: format!("{host}:{}", source.path),
        kind: "nfs",
        flags,
        attempts: versions
            .iter()
            .map(|version| format!("{version}{}", rest.join(",")))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(read_only: bool) -> NFSVolumeSource {
        NFSVolumeSource {
            path: "/export/data".into(),
            server: "files".into(),
            read_only: Some(read_only),
        }
    }

    #[test]
    fn newer_versions_are_tried_first_unless_one_is_chosen() {
        let plan = plan(&source(true), &[], "10.0.0.5".parse().unwrap()).unwrap();
        assert_eq!(plan.source, "10.0.0.5:/export/data");
        assert_eq!(plan.attempts[0], "vers=4.2,addr=10.0.0.5");
        assert_eq!(plan.attempts.len(), 4);
        assert!(plan.flags.contains(MsFlags::MS_RDONLY));
    }

    #[test]
    fn a_volumes_mount_options_become_the_kernels() {
        let options = ["nfsvers=4.1,hard".to_owned(), "noatime".to_owned(), "rw".to_owned()];
        let plan = plan(&source(false), &options, "fd00::1".parse().unwrap()).unwrap();
        assert_eq!(plan.source, "[fd00::1]:/export/data");
        assert_eq!(plan.attempts, ["vers=4.1,hard,addr=fd00::1"]);
        assert!(plan.flags.contains(MsFlags::MS_NOATIME) && !plan.flags.contains(MsFlags::MS_RDONLY));
        assert!(super::plan(&source(false), &["addr=1.2.3.4".into()], "10.0.0.5".parse().unwrap()).is_err());
    }
}
