//! What a container is asked to be and what it is. CRI-shaped, without any API type.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{ContainerId, ImageId, SandboxId};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    pub name: String,
    pub attempt: u32,
    /// Any name of an image on this node: a reference, a digest or an image id.
    pub image: String,
    /// Replaces the image's entrypoint and drops its command when not empty.
    pub command: Vec<String>,
    /// Replaces the image's command when not empty.
    pub args: Vec<String>,
    /// Added to the image's environment; the last value of a name wins.
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    pub security: Security,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub resources: Resources,
    pub tty: bool,
    pub stdin: bool,
    /// Close the container's input when the first attached client's input ends.
    pub stdin_once: bool,
    /// Where to log, in the CRI's format. Relative paths start at the sandbox's log directory; empty means no log.
    pub log_path: PathBuf,
    /// A running container of the pod whose processes this one sees: it joins that one's PID namespace.
    pub pid_target: Option<ContainerId>,
    /// Overrides the image's stop signal (`SIGQUIT`, `QUIT` or `3`).
    pub stop_signal: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// Overrides the image's user.
    pub user: Option<u32>,
    /// A user name to look up in the image's `/etc/passwd`; `user` wins over it.
    pub username: Option<String>,
    pub group: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    /// Leave out the groups that the image's `/etc/group` gives the user (`supplementalGroupsPolicy: Strict`).
    pub strict_groups: bool,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub privileged: bool,
    pub readonly_rootfs: bool,
    pub no_new_privileges: bool,
    pub seccomp: SeccompProfile,
    pub apparmor_profile: Option<String>,
    /// `procMount: Unmasked`.
    pub unmasked_proc: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompProfile {
    #[default]
    Unconfined,
    RuntimeDefault,
    /// A file in the OCI (or Docker) JSON format.
    Localhost(PathBuf),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Mount this image instead of a path of the host's: to be read, and not to be executed.
    pub image: Option<ImageId>,
    /// The part of the image to mount; empty for all of it.
    pub image_sub_path: String,
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    pub readonly: bool,
    /// With `readonly`: mounts below it too.
    pub recursive_readonly: bool,
    pub propagation: Propagation,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// Limits. Absent fields stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub cpu_shares: Option<u64>,
    /// Microseconds per period; -1 for no limit.
    pub cpu_quota: Option<i64>,
    pub cpu_period: Option<u64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Bytes; -1 for no limit.
    pub memory_limit: Option<i64>,
    /// Memory and swap together, bytes.
    pub memory_swap_limit: Option<i64>,
    pub pids_limit: Option<i64>,
    /// Bytes by page size as the kernel writes it (`2MB`).
    pub hugepage_limits: BTreeMap<String, u64>,
    pub oom_score_adj: Option<i32>,
    /// cgroup v2 files to write as given.
    pub unified: BTreeMap<String, String>,
}

impl Resources {
    /// What is given replaces what was; what is not stays.
    pub(crate) fn merge(&mut self, new: Resources) {
        macro_rules! take {
            ($($field:ident),*) => { $(if new.$field.is_some() { self.$field = new.$field; })* };
        }
        take!(
            cpu_shares,
            cpu_quota,
            cpu_period,
            cpuset_cpus,
            cpuset_mems,
            memory_limit,
            memory_swap_limit,
            pids_limit,
            oom_score_adj
        );
        self.hugepage_limits.extend(new.hugepage_limits);
        self.unified.extend(new.unified);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    pub name: String,
    pub attempt: u32,
    pub state: ContainerState,
    pub pid: Option<i32>,
    /// 128 plus the signal for a process that a signal ended; 128 for one that never started.
    pub exit_code: Option<i32>,
    pub oom_killed: bool,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// As the configuration named it.
    pub image: String,
    pub image_id: ImageId,
    pub log_path: Option<PathBuf>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: Option<String>,
    pub message: Option<String>,
    /// The signal to stop it with, by the configuration or the image.
    pub stop_signal: i32,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// The user that it runs as.
    pub user: u32,
    pub group: u32,
    pub supplemental_groups: Vec<u32>,
    pub mounts: Vec<Mount>,
    /// What limits it now.
    pub resources: Resources,
}
