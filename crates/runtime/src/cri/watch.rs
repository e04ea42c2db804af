//! Keeping the copy of what the runtime has up to date: one thing after it was changed, everything now and then, and what
//! has ended as soon as its process has.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use coracle_clock::Clock;
use tokio::sync::watch as watched;

use super::message::{
    ContainerFilter, ContainerStatusRequest, ContainerStatusResponse, ListContainersRequest, ListContainersResponse,
    ListPodSandboxRequest, ListPodSandboxResponse, PodSandboxFilter, PodSandboxStatusRequest, PodSandboxStatusResponse,
    SANDBOX_READY,
};
use super::rpc::Failure;
use super::{Inner, KnownContainer, KnownSandbox, convert};
use crate::container::{ContainerState, ContainerStatus};
use crate::error::Result;
use crate::id::{ContainerId, SandboxId};
use crate::pod_runtime::EventKind;
use crate::sandbox::{SandboxState, SandboxStatus};
use crate::sys;

/// Between looks at everything. What this client does and what ends by itself is known at once; this is for what others
/// do. The interface's events are not asked for: runtimes in use do not serve them yet.
const LOOK: Duration = Duration::from_secs(5);
/// The runtime hears of a process's end a moment after the kernel has told it here.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(inner: Weak<Inner>, clock: Clock) {
    let mut silent = false;
    loop {
        clock.sleep(LOOK).await;
        let Some(inner) = inner.upgrade() else { return };
        match inner.look().await {
            Ok(()) => silent = false,
            Err(error) if !silent => {
                silent = true;
                tracing::warn!(%error, "the container runtime does not tell what it has");
            }
            Err(_) => {}
        }
    }
}

impl Inner {
    /// Looks at everything of this owner's.
    pub(super) async fn look(self: &Arc<Self>) -> Result<()> {
        let _one = self.looking.lock().await;
        // What is made while this looks is not missing because the list is older.
        let (sandboxes_before, containers_before) = {
            let state = self.state.lock();
            let sandboxes: Vec<_> = state
                .sandboxes
                .iter()
                .map(|(id, s)| (id.clone(), s.name.clone()))
                .collect();
            (sandboxes, state.containers.keys().cloned().collect::<Vec<_>>())
        };
        let selector = convert::owned_by(&self.owner);
        let filter = PodSandboxFilter {
            label_selector: selector.clone(),
        };
        let sandboxes: ListPodSandboxResponse = self
            .rpc
            .runtime("ListPodSandbox", ListPodSandboxRequest { filter: Some(filter) })
            .await?;
        let filter = ContainerFilter {
            label_selector: selector,
        };
        let containers: ListContainersResponse = self
            .rpc
            .runtime("ListContainers", ListContainersRequest { filter: Some(filter) })
            .await?;
        let listed: BTreeSet<&str> = sandboxes.items.iter().map(|s| s.id.as_str()).collect();
        for sandbox in &sandboxes.items {
            let known = {
                let state = self.state.lock();
                let known = state.sandboxes.values().find(|known| known.name == sandbox.id);
                known.map(|known| known.status.state == SandboxState::Ready)
            };
            if known != Some(sandbox.state == SANDBOX_READY) {
                self.look_at_sandbox(&sandbox.id).await?;
            }
        }
        for (id, name) in sandboxes_before {
            if !listed.contains(name.as_str()) {
                self.forget_sandbox(&id, &name);
            }
        }
        let listed: BTreeSet<&str> = containers.containers.iter().map(|c| c.id.as_str()).collect();
        for container in &containers.containers {
            let id = ContainerId::new(container.id.clone());
            let known = self.state.lock().containers.get(&id).map(|c| c.status.borrow().state);
            if known.map(number) != Some(container.state.min(number(ContainerState::Exited))) {
                self.look_at(&id).await?;
            }
        }
        for id in containers_before {
            if !listed.contains(id.as_str()) {
                self.forget(&id);
            }
        }
        Ok(())
    }

    /// Asks for one sandbox, by the runtime's name for it.
    pub(super) async fn look_at_sandbox(self: &Arc<Self>, name: &str) -> Result<Option<SandboxStatus>> {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: name.to_owned(),
            verbose: true,
        };
        let answer: Result<PodSandboxStatusResponse, Failure> = self.rpc.runtime("PodSandboxStatus", request).await;
        let answer = match answer {
            Err(failure) if failure.is_missing() => return Ok(None),
            other => other?,
        };
        let info = convert::info(&answer.info);
        let status = answer.status.and_then(|s| convert::sandbox_status(s, info.pid));
        if let Some(status) = &status {
            self.take_sandbox(name, status.clone());
        }
        Ok(status)
    }

    fn take_sandbox(self: &Arc<Self>, name: &str, status: SandboxStatus) {
        let (id, ready, pid) = (status.id.clone(), status.state == SandboxState::Ready, status.pid);
        let before = {
            let sandboxes = &mut self.state.lock().sandboxes;
            let change = sandboxes.get(&id).map(|known| known.change.clone());
            let known = KnownSandbox {
                name: name.to_owned(),
                status,
                change: change.unwrap_or_default(),
            };
            sandboxes.insert(id.clone(), known)
        };
        let was_ready = before.is_some_and(|b| b.name == name && b.status.state == SandboxState::Ready);
        match (was_ready, ready) {
            (false, true) => {
                self.emit(EventKind::SandboxReady, &id, None);
                self.follow_sandbox(name.to_owned(), pid);
            }
            (true, false) => self.emit(EventKind::SandboxStopped, &id, None),
            _ => {}
        }
    }

    pub(super) fn forget_sandbox(&self, id: &SandboxId, name: &str) {
        let mut state = self.state.lock();
        if state.sandboxes.get(id).is_some_and(|known| known.name == name) {
            state.sandboxes.remove(id);
            drop(state);
            self.emit(EventKind::SandboxRemoved, id, None);
        }
    }

    /// Asks for one container; `None` when there is none.
    pub(super) async fn look_at(self: &Arc<Self>, id: &ContainerId) -> Result<Option<ContainerStatus>> {
        let request = ContainerStatusRequest {
            container_id: id.to_string(),
            verbose: true,
        };
        let answer: Result<ContainerStatusResponse, Failure> = self.rpc.runtime("ContainerStatus", request).await;
        let answer = match answer {
            Err(failure) if failure.is_missing() => {
                self.forget(id);
                return Ok(None);
            }
            other => other?,
        };
        let info = convert::info(&answer.info);
        let Some((status, record)) = answer.status.and_then(|s| convert::container_status(s, &info)) else {
            return Ok(None);
        };
        Ok(Some(self.take(status, record)))
    }

    /// Takes a container's status unless a later one is known; returns the latest.
    fn take(self: &Arc<Self>, mut status: ContainerStatus, record: convert::ContainerRecord) -> ContainerStatus {
        let mut state = self.state.lock();
        let before = match state.containers.get_mut(&status.id) {
            Some(known) => {
                let before = known.status.borrow().clone();
                if number(before.state) > number(status.state) {
                    return before;
                }
                // The record is as it was at the creation.
                status.resources = before.resources.clone();
                known.process = known.process.or(process(&status));
                known.status.send_replace(status.clone());
                Some(before.state)
            }
            None => {
                let known = KnownContainer {
                    record,
                    process: process(&status),
                    status: watched::Sender::new(status.clone()),
                };
                state.containers.insert(status.id.clone(), known);
                None
            }
        };
        drop(state);
        if before != Some(status.state) {
            let tell = |kind| self.emit(kind, &status.sandbox, Some(&status.id));
            match status.state {
                ContainerState::Created => tell(EventKind::Created),
                ContainerState::Running => tell(EventKind::Started),
                ContainerState::Exited => {
                    // It may have run too shortly to be seen running.
                    if before == Some(ContainerState::Created) && status.started_at.is_some() {
                        tell(EventKind::Started);
                    }
                    tell(EventKind::Exited);
                }
            }
            if status.state == ContainerState::Running {
                self.follow(status.id.clone(), status.pid);
            }
        }
        status
    }

    pub(super) fn forget(&self, id: &ContainerId) {
        let removed = self.state.lock().containers.remove(id);
        if let Some(known) = removed {
            let sandbox = known.status.borrow().sandbox.clone();
            self.emit(EventKind::Removed, &sandbox, Some(id));
        }
    }

    /// Looks at the container once its process has ended, until the runtime knows it too.
    fn follow(self: &Arc<Self>, id: ContainerId, pid: Option<i32>) {
        let (weak, clock) = (Arc::downgrade(self), self.clock);
        self.after_the_end(pid, async move {
            let mut pause = FIRST_PAUSE;
            while let Some(inner) = weak.upgrade() {
                match inner.look_at(&id).await {
                    Ok(Some(status)) if status.state == ContainerState::Running => {}
                    Ok(_) => return,
                    Err(error) => tracing::debug!(container = %id, %error, "a container's end is not told"),
                }
                drop(inner);
                clock.sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }

    fn follow_sandbox(self: &Arc<Self>, name: String, pid: Option<i32>) {
        let (weak, clock) = (Arc::downgrade(self), self.clock);
        self.after_the_end(pid, async move {
            let mut pause = FIRST_PAUSE;
            while let Some(inner) = weak.upgrade() {
                match inner.look_at_sandbox(&name).await {
                    Ok(Some(status)) if status.state == SandboxState::Ready => {}
                    Ok(_) => return,
                    Err(error) => tracing::debug!(sandbox = name, %error, "a sandbox's end is not told"),
                }
                drop(inner);
                clock.sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }

    fn after_the_end(&self, pid: Option<i32>, then: impl Future<Output = ()> + Send + 'static) {
        // Without a process to wait for, the next look at everything finds out.
        let Some(process) = pid.map(sys::PidFd::open) else {
            return;
        };
        tokio::spawn(async move {
            if let Ok(process) = process
                && let Err(error) = process.ended().await
            {
                return tracing::warn!(pid, %error, "the end of a container's process is not waited for");
            }
            // One that cannot be opened has ended.
            then.await;
        });
    }
}

fn process(status: &ContainerStatus) -> Option<(i32, u64)> {
    let pid = status.pid?;
    Some((pid, sys::start_time(pid)?))
}

/// As the interface numbers them, which is their order in time.
fn number(state: ContainerState) -> i32 {
    match state {
        ContainerState::Created => 0,
        ContainerState::Running => 1,
        ContainerState::Exited => 2,
    }
}
