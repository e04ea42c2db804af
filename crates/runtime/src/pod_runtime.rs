//! The seam between the node agent and whatever runs its pods.
//!
//! The embedded [`Engine`](crate::Engine) is one implementation, the client of another runtime, [`Cri`](crate::Cri), the
//! other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{broadcast, watch};

use crate::container::{ContainerConfig, ContainerStatus, Resources};
use crate::error::Result;
use crate::id::{ContainerId, ImageId, SandboxId};
use crate::image::{Auth, ImageInfo, ProgressSink};
use crate::sandbox::{Sandbox, SandboxConfig, SandboxStatus};

#[async_trait]
pub trait PodRuntime: Send + Sync + 'static {
    /// What runs the containers, by name and version.
    fn identity(&self) -> Identity;
    /// What it can do for pods.
    fn abilities(&self) -> Abilities;
    /// What keeps it from running pods, if something does.
    async fn trouble(&self) -> Option<String>;

    /// Starts the pod's shim with its namespaces, host name, kernel parameters and cgroup.
    async fn run_sandbox(&self, config: SandboxConfig) -> Result<Sandbox>;
    /// Kills what runs in the sandbox and ends its shim. Idempotent.
    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()>;
    /// Stops it if needed and removes every trace of it and of its containers. Idempotent.
    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()>;
    async fn sandboxes(&self) -> Vec<SandboxStatus>;

    /// Prepares the root file system and configuration; no process yet.
    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId>;
    /// Runs it. A program that is not there is [`Error::CommandNotFound`](crate::Error::CommandNotFound), and the
    /// container is left `Exited` with code 128 and reason `StartError`.
    async fn start_container(&self, id: &ContainerId) -> Result<()>;
    /// Sends `signal` (its stop signal when `None`), waits up to `grace` for its end, then kills it. Returns when it
    /// has ended. Idempotent.
    async fn stop_container(&self, id: &ContainerId, signal: Option<i32>, grace: Duration) -> Result<()>;
    /// Sends a signal to the container's first process.
    async fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<()>;
    /// Kills it if it runs and removes every trace of it but its log. Idempotent.
    async fn remove_container(&self, id: &ContainerId) -> Result<()>;
    async fn containers(&self) -> Vec<ContainerStatus>;
    async fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus>;
    /// Waits until the container has ended.
    async fn wait_container(&self, id: &ContainerId) -> Result<ContainerStatus>;
    /// Opens the log file anew, after the old one was renamed.
    async fn reopen_log(&self, id: &ContainerId) -> Result<()>;

    /// What happens, as it happens. A receiver that is told `Lagged` lists again.
    fn events(&self) -> broadcast::Receiver<Event>;

    /// Runs a command to its end. On a timeout it is killed.
    async fn exec_sync(&self, id: &ContainerId, command: &[String], timeout: Option<Duration>) -> Result<ExecOutput>;
    async fn exec(&self, id: &ContainerId, config: ExecConfig) -> Result<ExecStreams>;
    /// The container's own output from now on and, where it was made with one, its input.
    async fn attach(&self, id: &ContainerId, config: AttachConfig) -> Result<AttachStreams>;

    async fn container_stats(&self, id: &ContainerId) -> Result<Stats>;
    /// The whole pod, from the pod's own cgroup.
    async fn sandbox_stats(&self, id: &SandboxId) -> Result<Stats>;
    /// Bytes and inodes that the container has written to its root file system. Walks it.
    async fn container_disk_usage(&self, id: &ContainerId) -> Result<DiskUsage>;
    async fn update_resources(&self, id: &ContainerId, resources: Resources) -> Result<()>;
    async fn update_sandbox_resources(&self, id: &SandboxId, resources: Resources) -> Result<()>;

    /// Fetches from a registry unless it is here already by that very digest.
    async fn pull_image(&self, reference: &str, auth: Option<Auth>, progress: ProgressSink) -> Result<ImageId>;
    /// Imports an OCI or Docker archive; returns the references (or ids, for images without a name) it held.
    async fn import_archive(&self, archive: Archive, progress: ProgressSink) -> Result<Vec<String>>;
    /// Writes the images with these names (or ids) to a file: an archive in the OCI's format and in Docker's.
    async fn export_archive(&self, references: &[String], path: PathBuf, progress: ProgressSink) -> Result<()>;
    async fn images(&self) -> Vec<Arc<ImageInfo>>;
    /// By reference, digest or image id.
    async fn image(&self, reference: &str) -> Option<Arc<ImageInfo>>;
    /// Removes one name of an image; with its last name, or by its id, the image itself. Idempotent.
    async fn remove_image(&self, reference: &str) -> Result<()>;
    /// Where images and containers are kept, for disk accounting.
    fn image_filesystem(&self) -> PathBuf;
}

/// `containerd`, `1.7.0`: as a node and the ids of its containers show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub version: String,
}

/// What not every runtime can, nor every version of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Empty where the runtime does not tell which it has.
    pub handlers: Vec<Handler>,
    /// A container's groups can be those of its specification alone, without those that the image names.
    pub strict_groups: bool,
}

impl Abilities {
    /// The handler by this name; the default one where the runtime does not tell.
    pub fn handler(&self, name: &str) -> Option<Handler> {
        let found = self.handlers.iter().find(|handler| handler.name == name).cloned();
        found.or_else(|| self.handlers.is_empty().then(Handler::default))
    }
}

/// One of the ways in which a runtime runs pods, and what that can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handler {
    /// Empty: the default one.
    pub name: String,
    /// Mounts can be read-only with all that is mounted below them.
    pub recursive_readonly: bool,
    /// Pods can have users of their own, with volumes.
    pub user_namespaces: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    SandboxReady,
    /// Stopped, or its shim died.
    SandboxStopped,
    SandboxRemoved,
    Created,
    Started,
    Exited,
    Removed,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub kind: EventKind,
    pub sandbox: SandboxId,
    pub container: Option<ContainerId>,
}

#[derive(Clone, Debug, Default)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

#[derive(Clone, Debug, Default)]
pub struct ExecConfig {
    pub command: Vec<String>,
    /// A terminal: one output stream, and sizes can be set.
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Clone, Debug, Default)]
pub struct AttachConfig {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A running command. Dropping all of it kills the command.
pub struct ExecStreams {
    pub stdin: Option<Writer>,
    pub stdout: Option<Reader>,
    pub stderr: Option<Reader>,
    pub control: ExecControl,
}

/// Whom to tell the size of a terminal's window.
#[derive(Clone)]
pub(crate) enum Window {
    /// The terminal itself.
    Terminal(Arc<std::os::fd::OwnedFd>),
    /// Whoever passes it on: columns and rows.
    Relayed(watch::Sender<(u16, u16)>),
}

impl Window {
    fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        match self {
            Self::Terminal(terminal) => crate::sys::set_terminal_size(terminal, columns, rows)
                .map_err(crate::Error::io("resize terminal", "exec")),
            Self::Relayed(sizes) => {
                sizes.send_replace((columns, rows));
                Ok(())
            }
        }
    }
}

/// Sizes and the end of a running command.
pub struct ExecControl {
    /// None without a terminal.
    pub(crate) window: Option<Window>,
    pub(crate) exit: futures::future::BoxFuture<'static, Result<i32>>,
}

impl ExecControl {
    /// The size of its terminal; nothing without one.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        self.resizer()(columns, rows)
    }

    /// Something that resizes after `wait` has taken the control.
    pub fn resizer(&self) -> impl Fn(u16, u16) -> Result<()> + Send + Sync + 'static {
        let window = self.window.clone();
        move |columns, rows| window.as_ref().map_or(Ok(()), |window| window.resize(columns, rows))
    }

    /// Its exit code.
    pub async fn wait(self) -> Result<i32> {
        self.exit.await
    }
}

/// A container's own streams. Dropping them detaches.
pub struct AttachStreams {
    pub stdin: Option<Writer>,
    pub stdout: Option<Reader>,
    pub stderr: Option<Reader>,
    pub control: AttachControl,
}

/// The size of an attached container's terminal.
#[derive(Clone)]
pub struct AttachControl(pub(crate) Attached);

#[derive(Clone)]
pub(crate) enum Attached {
    Shim {
        shim: crate::engine::ShimClient,
        container: ContainerId,
    },
    Relayed(Option<Window>),
}

impl AttachControl {
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        match &self.0 {
            Attached::Shim { shim, container } => shim.resize(container, columns, rows).await,
            Attached::Relayed(window) => window.as_ref().map_or(Ok(()), |window| window.resize(columns, rows)),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub at: Timestamp,
    pub cpu_usage_ns: u64,
    pub memory_usage: u64,
    pub memory_working_set: u64,
    pub memory_rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub memory_limit: Option<u64>,
    pub swap_usage: u64,
    pub pids: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct DiskUsage {
    pub bytes: u64,
    pub inodes: u64,
}

/// An image archive to import.
pub enum Archive {
    Path(PathBuf),
    Reader(Reader),
}
