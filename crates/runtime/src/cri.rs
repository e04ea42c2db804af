//! The other implementation of [`PodRuntime`](crate::PodRuntime): a client of a runtime that serves the container runtime
//! interface, version 1, at a socket (containerd, CRI-O). That runtime makes the pods' network too, by CNI.
//!
//! What is known here is a copy of what the runtime has, with its own statuses. It is brought up to date by whatever this
//! client does, by the ends of processes, which the kernel tells, and now and then by a look at everything: `watch.rs`.
//! `rpc.rs` makes the calls, `message.rs` is what they carry, `convert.rs` says it in this crate's words (pure),
//! `streaming.rs` speaks with the runtime's streaming server, `runtime.rs` is the whole by name, `log.rs` rotates logs.
//!
//! Pods are this client's by a label, so that another one of the same runtime is not touched.

mod convert;
mod image;
mod log;
mod message;
mod rpc;
mod runtime;
mod streaming;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use coracle_clock::Clock;
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, broadcast, watch as watched};
use tokio_util::task::AbortOnDropHandle;

use crate::cgroup::Cgroups;
use crate::container::ContainerStatus;
use crate::error::{Error, Result};
use crate::id::{ContainerId, SandboxId};
use crate::pod_runtime::{Abilities, Event, EventKind, Handler, Identity};
use crate::sandbox::{SandboxState, SandboxStatus};
use crate::shim::LogLimits;
use convert::ContainerRecord;
use message::{Empty, ImageFsInfoResponse, StatusRequest, StatusResponse, VersionRequest, VersionResponse};
use rpc::Rpc;

const EVENTS: usize = 4096;

#[derive(Clone, Debug)]
pub struct CriConfig {
    /// The runtime's socket.
    pub socket: PathBuf,
    /// Whose pods these are, among all that the runtime has: letters and digits.
    pub owner: String,
    pub logs: LogLimits,
    pub clock: Clock,
}

/// Runs pods by another runtime. Cheap to clone. Dropping it leaves the pods running.
#[derive(Clone)]
pub struct Cri {
    inner: Arc<Inner>,
    _tasks: Arc<[AbortOnDropHandle<()>; 2]>,
}

struct Inner {
    rpc: Rpc,
    owner: String,
    clock: Clock,
    cgroups: Cgroups,
    identity: Identity,
    abilities: Abilities,
    /// The image of the sandboxes' own containers, where the runtime tells it.
    sandbox_image: Option<String>,
    image_filesystem: PathBuf,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
    /// One look at everything at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<SandboxId, KnownSandbox>,
    containers: BTreeMap<ContainerId, KnownContainer>,
}

struct KnownSandbox {
    /// What the runtime calls it.
    name: String,
    status: SandboxStatus,
    /// One who stops or removes it, or containers in it, at a time.
    change: Arc<tokio::sync::Mutex<()>>,
}

struct KnownContainer {
    record: ContainerRecord,
    status: watched::Sender<ContainerStatus>,
    /// The first process by number and start.
    process: Option<(i32, u64)>,
}

impl Cri {
    /// Asks the runtime who it is and what it has of this owner's.
    pub async fn open(config: CriConfig) -> Result<Self> {
        let rpc = Rpc::connect(&config.socket)?;
        let version: VersionResponse = rpc
            .runtime("Version", VersionRequest { version: "v1".into() })
            .await
            .map_err(|error| {
                Error::Failed(format!(
                    "no container runtime answers at {}: {error}; is it running, and does it serve runtime.v1?",
                    config.socket.display()
                ))
            })?;
        let status: StatusResponse = rpc.runtime("Status", StatusRequest { verbose: true }).await?;
        let filesystem: ImageFsInfoResponse = rpc.images("ImageFsInfo", Empty {}).await?;
        let image_filesystem = filesystem.image_filesystems.into_iter().find_map(|f| f.fs_id);
        let inner = Arc::new(Inner {
            rpc,
            owner: config.owner,
            clock: config.clock,
            cgroups: Cgroups::detect().map_err(Error::io("read", "/proc/self/mountinfo"))?,
            identity: Identity {
                name: version.runtime_name,
                version: version.runtime_version,
            },
            abilities: abilities(&status),
            sandbox_image: convert::sandbox_image(&status.info),
            image_filesystem: image_filesystem.map_or_else(|| "/".into(), |id| id.mountpoint.into()),
            state: Mutex::default(),
            events: broadcast::Sender::new(EVENTS),
            looking: tokio::sync::Mutex::default(),
        });
        inner.look().await?;
        let watch = tokio::spawn(watch::run(Arc::downgrade(&inner), config.clock));
        let logs = tokio::spawn(log::run(Arc::downgrade(&inner), config.logs, config.clock));
        Ok(Self {
            inner,
            _tasks: Arc::new([AbortOnDropHandle::new(watch), AbortOnDropHandle::new(logs)]),
        })
    }

    /// Removes the group that all pods were in, and what is left of theirs.
    pub fn remove_cgroup(&self, group: &str) -> Result<()> {
        self.inner
            .cgroups
            .remove(group)
            .map_err(Error::io("remove cgroup", group))
    }
}

/// Older runtimes tell of no handler.
fn abilities(status: &StatusResponse) -> Abilities {
    let handlers = status.runtime_handlers.iter().map(|handler| {
        let features = handler.features.clone().unwrap_or_default();
        Handler {
            name: handler.name.clone(),
            recursive_readonly: features.recursive_read_only_mounts,
            user_namespaces: features.user_namespaces,
        }
    });
    Abilities {
        handlers: handlers.collect(),
        strict_groups: status.features.as_ref().is_some_and(|f| f.supplemental_groups_policy),
    }
}

impl Inner {
    fn emit(&self, kind: EventKind, sandbox: &SandboxId, container: Option<&ContainerId>) {
        // Nobody may listen.
        let _ = self.events.send(Event {
            kind,
            sandbox: sandbox.clone(),
            container: container.cloned(),
        });
    }

    /// What the runtime calls the sandbox.
    fn sandbox_name(&self, id: &SandboxId) -> Option<String> {
        let state = self.state.lock();
        state.sandboxes.get(id).map(|known| known.name.clone())
    }

    /// Held by who changes the sandbox; none if there is none.
    async fn change(&self, id: &SandboxId) -> Option<OwnedMutexGuard<()>> {
        let change = self.state.lock().sandboxes.get(id).map(|known| known.change.clone())?;
        Some(change.lock_owned().await)
    }

    /// The sandbox's status; an error when it is not ready.
    fn ready_sandbox(&self, id: &SandboxId) -> Result<(String, SandboxStatus)> {
        let state = self.state.lock();
        match state.sandboxes.get(id) {
            None => Err(Error::NoSuchSandbox(id.to_string())),
            Some(known) if known.status.state != SandboxState::Ready => Err(Error::SandboxNotReady(id.to_string())),
            Some(known) => Ok((known.name.clone(), known.status.clone())),
        }
    }

    fn record(&self, id: &ContainerId) -> Result<ContainerRecord> {
        let state = self.state.lock();
        let known = state.containers.get(id);
        known
            .map(|known| known.record.clone())
            .ok_or_else(|| Error::NoSuchContainer(id.to_string()))
    }

    fn status(&self, id: &ContainerId) -> Result<ContainerStatus> {
        let state = self.state.lock();
        let known = state.containers.get(id);
        known
            .map(|known| known.status.borrow().clone())
            .ok_or_else(|| Error::NoSuchContainer(id.to_string()))
    }

    /// Waits until it has ended; an error only when it is removed first.
    async fn ended(&self, id: &ContainerId) -> Result<ContainerStatus> {
        let missing = || Error::NoSuchContainer(id.to_string());
        let mut status = {
            let state = self.state.lock();
            state.containers.get(id).ok_or_else(missing)?.status.subscribe()
        };
        let ended = status
            .wait_for(|status| status.state == crate::ContainerState::Exited)
            .await;
        ended.map(|status| status.clone()).map_err(|_| missing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::{RuntimeHandler, RuntimeHandlerFeatures};

    #[test]
    fn a_runtime_that_tells_its_handlers_has_no_others() {
        let told = StatusResponse {
            runtime_handlers: vec![
                RuntimeHandler::default(),
                RuntimeHandler {
                    name: "kata".into(),
                    features: Some(RuntimeHandlerFeatures {
                        recursive_read_only_mounts: true,
                        user_namespaces: false,
                    }),
                },
            ],
            ..StatusResponse::default()
        };
        let told = abilities(&told);
        assert!(
            told.handler("kata")
                .is_some_and(|h| h.recursive_readonly && !h.user_namespaces)
        );
        assert!(told.handler("").is_some_and(|h| !h.recursive_readonly));
        assert_eq!(told.handler("gvisor"), None);
        let silent = abilities(&StatusResponse::default());
        assert_eq!(
            silent.handler("gvisor"),
            Some(Handler::default()),
            "it is asked and may refuse"
        );
    }
}
