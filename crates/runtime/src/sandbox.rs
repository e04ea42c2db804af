//! What a pod's sandbox is asked to be and what it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::container::Resources;
use crate::id::SandboxId;

/// Everything needed to start a pod's shim. Names and labels are carried, never interpreted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxConfig {
    /// Chosen by the caller, or generated when absent.
    pub id: Option<SandboxId>,
    pub pod_uid: String,
    pub namespace: String,
    pub name: String,
    pub attempt: u32,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub hostname: String,
    /// Which of the runtime's [handlers](crate::Handler) runs the pod; empty is the default one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub handler: String,
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    /// One PID namespace for all of the pod's containers.
    pub share_process_namespace: bool,
    /// A container of the pod is going to be privileged.
    pub privileged: bool,
    /// The pod's cgroup, from the root of the hierarchies: `/kubepods/burstable/pod<uid>`. Made if absent, and removed
    /// with the last sandbox in it. Empty means `/coracle/<sandbox id>`.
    pub cgroup_parent: String,
    /// Limits of the pod's cgroup.
    pub resources: Resources,
    /// Namespaced kernel parameters, by their dotted names.
    pub sysctls: BTreeMap<String, String>,
    /// Relative log paths of the pod's containers start here.
    pub log_directory: PathBuf,
    /// The pod's processes have users of their own: what is root in it is nobody on the host.
    pub user_namespace: Option<UserNamespace>,
    /// Size of the pod's shared memory (`/dev/shm`) in bytes; 64 MiB when absent.
    pub shm_size: Option<u64>,
}

/// Which of the host's user and group ids stand for 0, 1, 2... in the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    pub host_id: u32,
    pub length: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// The shim lives: namespaces are there and containers can run.
    Ready,
    /// Stopped, or its shim died. It cannot become ready again.
    NotReady,
}

/// A sandbox that has just started.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pub id: SandboxId,
    /// The shim.
    pub pid: i32,
    /// The pod's network namespace, also for host network pods.
    pub netns: PathBuf,
    /// The pod's addresses where the runtime has made its network; none where that is the caller's to do.
    pub addresses: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
pub struct SandboxStatus {
    pub id: SandboxId,
    pub config: SandboxConfig,
    pub state: SandboxState,
    pub created_at: Timestamp,
    /// Who holds the pod's namespaces, while it lives: the shim, or its child in a pod with users of its own.
    pub pid: Option<i32>,
    pub netns: Option<PathBuf>,
    /// As in [`Sandbox`].
    pub addresses: Option<Vec<String>>,
}
