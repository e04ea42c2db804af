//! The embedded implementation of [`PodRuntime`](crate::PodRuntime): pods as shims on this host.
//!
//! What is true is on disk and in the shims; this is the agent's view of it, kept current by the shims' events.
//! `sandboxes.rs` and `containers.rs` change things, `recover.rs` finds them again after a restart, `exec.rs` talks to
//! running containers, `client.rs` to shims.

mod client;
mod containers;
mod exec;
mod images;
mod recover;
mod runtime;
mod sandboxes;
mod terminal;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use coracle_clock::{Clock, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;

use crate::cgroup::Cgroups;
use crate::container::{ContainerConfig, ContainerState, ContainerStatus};
use crate::error::{Error, Result};
use crate::id::{ContainerId, ImageId, SandboxId};
use crate::image::RegistryConfig;
use crate::image::store::ImageStore;
use crate::pod_runtime::{Event, EventKind};
use crate::sandbox::{SandboxConfig, SandboxState};
use crate::shim::LogLimits;
use crate::shim::protocol::{Record, RecordState, ShimIdentity};
use crate::spec;

pub use client::ShimClient;

const EVENTS: usize = 4096;
/// How long an engine that is just ending may keep its directory.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// A program with its first arguments.
#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
}

#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Where images and containers are kept.
    pub root: PathBuf,
    /// What runs [`shim_main`](crate::shim_main): by default this very program's `shim`.
    pub shim: Program,
    /// runc, crun or another with their command line, instead of the embedded OCI runtime.
    pub oci_runtime: Option<PathBuf>,
    /// Others like it, for the pods that ask for them by these names.
    pub handlers: BTreeMap<String, PathBuf>,
    pub registries: RegistryConfig,
    /// Of containers that are started from now on.
    pub logs: LogLimits,
    pub clock: Clock,
}

impl EngineConfig {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            shim: Program {
                path: "/proc/self/exe".into(),
                arguments: vec!["shim".into()],
            },
            oci_runtime: None,
            handlers: BTreeMap::new(),
            registries: RegistryConfig::default(),
            logs: LogLimits::default(),
            clock: Clock::system(),
        }
    }
}

/// Runs pods on this host. Cheap to clone. Dropping it leaves the pods running.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    config: EngineConfig,
    images: Arc<ImageStore>,
    cgroups: Cgroups,
    /// Capabilities that containers can be given.
    bounding: u64,
    /// The shim's program where no container can write to it, where the kernel can do that.
    program: Option<OwnedFd>,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
    /// One pull of an image at a time.
    pulls: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    watchers: Mutex<Vec<AbortHandle>>,
    /// Held while this engine lives: the directory is its alone.
    _lock: File,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.watchers.get_mut().iter().for_each(AbortHandle::abort);
    }
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<SandboxId, Arc<SandboxEntry>>,
    containers: BTreeMap<ContainerId, Arc<ContainerEntry>>,
}

struct SandboxEntry {
    id: SandboxId,
    record: SandboxRecord,
    directory: PathBuf,
    state: watch::Sender<SandboxState>,
    shim: Mutex<Option<ShimIdentity>>,
    client: ShimClient,
    /// One change at a time.
    change: tokio::sync::Mutex<()>,
    /// Shared by those who make containers in it, and taken by the one who removes it.
    creating: tokio::sync::RwLock<()>,
}

/// `sandbox.json`
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SandboxRecord {
    config: SandboxConfig,
    created_at: Timestamp,
    /// The pod's group, and in it the shim's.
    cgroup: String,
    infra_cgroup: String,
}

struct ContainerEntry {
    id: ContainerId,
    record: Mutex<ContainerRecord>,
    directory: PathBuf,
    status: watch::Sender<ContainerStatus>,
    change: tokio::sync::Mutex<()>,
}

/// `container.json`
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ContainerRecord {
    sandbox: SandboxId,
    config: ContainerConfig,
    created_at: Timestamp,
    image_id: ImageId,
    /// Kept from removal while the container is there.
    layers: Vec<String>,
    /// Images that it mounts, likewise.
    #[serde(default)]
    mounted_images: Vec<ImageId>,
    cgroup: String,
    log_path: Option<PathBuf>,
    stop_signal: i32,
    user: u32,
    group: u32,
    supplemental_groups: Vec<u32>,
    shared_pids: bool,
}

impl ContainerRecord {
    fn status(&self, id: &ContainerId) -> ContainerStatus {
        ContainerStatus {
            id: id.clone(),
            sandbox: self.sandbox.clone(),
            name: self.config.name.clone(),
            attempt: self.config.attempt,
            state: ContainerState::Created,
            pid: None,
            exit_code: None,
            oom_killed: false,
            created_at: self.created_at,
            started_at: None,
            finished_at: None,
            image: self.config.image.clone(),
            image_id: self.image_id.clone(),
            log_path: self.log_path.clone(),
            reason: None,
            message: None,
            stop_signal: self.stop_signal,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            user: self.user,
            group: self.group,
            supplemental_groups: self.supplemental_groups.clone(),
            mounts: self.config.mounts.clone(),
            resources: self.config.resources.clone(),
        }
    }
}

const SANDBOX_RECORD: &str = "sandbox.json";
const CONTAINER_RECORD: &str = "container.json";

impl Engine {
    /// Removes a control group that held pods, and those below it. None of them may have processes.
    pub fn remove_cgroup(&self, group: &str) -> Result<()> {
        let removed = self.inner.cgroups.remove(group);
        removed.map_err(Error::io("remove the control group", group))
    }

    /// Opens a directory and takes up whatever runs in it.
    pub async fn open(config: EngineConfig) -> Result<Self> {
        let lock = lock(&config).await?;
        let opening = config.clone();
        let (images, cgroups) = blocking(move || {
            let images = ImageStore::open(&opening.root)?;
            let cgroups = Cgroups::detect().map_err(Error::io("read", "/proc/self/mountinfo"))?;
            Ok((images, cgroups))
        })
        .await?;
        let mut bounding = crate::sys::bounding_capabilities();
        if cgroups.is_v2() && config.oci_runtime.is_none() {
            // The embedded runtime restricts devices on v1 only. Without the right to make nodes there are none but
            // those that were given.
            bounding &= !spec::CAP_MKNOD;
        }
        let program = CString::new(config.shim.path.as_os_str().as_bytes())
            .map_err(std::io::Error::from)
            .and_then(|path| crate::sys::read_only_program(&path))
            .inspect_err(|error| tracing::warn!(%error, "the shim's program cannot be mounted read-only"))
            .ok();
        let engine = Self {
            inner: Arc::new(Inner {
                config,
                images: Arc::new(images),
                cgroups,
                bounding,
                program,
                state: Mutex::default(),
                events: broadcast::channel(EVENTS).0,
                pulls: Mutex::default(),
                watchers: Mutex::default(),
                _lock: lock,
            }),
        };
        engine.recover().await?;
        Ok(engine)
    }
}

/// Two engines would undo each other's work.
async fn lock(config: &EngineConfig) -> Result<File> {
    let root = &config.root;
    std::fs::create_dir_all(root).map_err(Error::io("create", root))?;
    use std::os::unix::fs::PermissionsExt;
    // Root file systems hold set-user-id programs that the host's users must not reach.
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o711)).map_err(Error::io("set mode of", root))?;
    let path = root.join("lock");
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(Error::io("open", &path))?;
    let deadline = config.clock.instant() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if config.clock.instant() < deadline => {
                config.clock.sleep(Duration::from_millis(10)).await;
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let path = root.display();
                return Err(Error::Failed(format!(
                    "{path} is in use by another engine; stop it first"
                )));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
        }
    }
}

impl Inner {
    fn sandbox_directory(&self, id: &SandboxId) -> PathBuf {
        self.config.root.join("sandboxes").join(id.as_str())
    }

    fn container_directory(&self, id: &ContainerId) -> PathBuf {
        self.config.root.join("containers").join(id.as_str())
    }

    fn sandbox(&self, id: &SandboxId) -> Result<Arc<SandboxEntry>> {
        let found = self.state.lock().sandboxes.get(id).cloned();
        found.ok_or_else(|| Error::NoSuchSandbox(id.to_string()))
    }

    fn container(&self, id: &ContainerId) -> Result<Arc<ContainerEntry>> {
        let found = self.state.lock().containers.get(id).cloned();
        found.ok_or_else(|| Error::NoSuchContainer(id.to_string()))
    }

    fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<ContainerEntry>> {
        let state = self.state.lock();
        state
            .containers
            .values()
            .filter(|c| c.record.lock().sandbox == *sandbox)
            .cloned()
            .collect()
    }

    fn emit(&self, kind: EventKind, sandbox: &SandboxId, container: Option<&ContainerId>) {
        // Nobody listening is fine.
        let _ = self.events.send(Event {
            kind,
            sandbox: sandbox.clone(),
            container: container.cloned(),
        });
    }

    /// Takes over what a shim says of a container.
    fn apply(&self, entry: &ContainerEntry, record: &Record) {
        let state = match record.state {
            RecordState::Running => ContainerState::Running,
            RecordState::Exited => ContainerState::Exited,
        };
        let mut before = None;
        entry.status.send_modify(|status| {
            before = Some(status.state);
            // An end is final: news from before it may still be under way.
            if status.state == ContainerState::Exited {
                return;
            }
            apply_record(status, record, state);
        });
        if before == Some(state) || before == Some(ContainerState::Exited) {
            return;
        }
        let sandbox = entry.record.lock().sandbox.clone();
        if before == Some(ContainerState::Created) && record.started_at.is_some() {
            self.emit(EventKind::Started, &sandbox, Some(&entry.id));
        }
        if state == ContainerState::Exited {
            self.emit(EventKind::Exited, &sandbox, Some(&entry.id));
        }
    }

    fn pinned_layers(&self) -> HashSet<String> {
        let state = self.state.lock();
        state
            .containers
            .values()
            .flat_map(|c| c.record.lock().layers.clone())
            .collect()
    }
}

fn apply_record(status: &mut ContainerStatus, record: &Record, state: ContainerState) {
    status.state = state;
    status.pid = record.pid;
    status.started_at = record.started_at;
    status.finished_at = record.finished_at;
    status.exit_code = record.exit_code;
    status.oom_killed = record.oom_killed;
    status.reason.clone_from(&record.reason);
    status.message.clone_from(&record.message);
}

/// Lets what makes something come to its end even if nobody waits for it any more: half of it would be known to no one.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Failed(format!("a worker failed: {error}"))),
    }
}

/// Runs what waits for the disk or the kernel where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Failed(format!("a worker failed: {error}"))),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let content = serde_json::to_vec(value).map_err(|error| Error::Failed(error.to_string()))?;
    crate::sys::write_atomic(path, &content).map_err(Error::io("write", path))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Absent is fine.
fn remove_directory(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
