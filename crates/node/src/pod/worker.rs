//! The loop of one pod: observe, plan, execute, report; woken by changes of the pod, events of the runtime, ends of what
//! was started, verdicts of probes, and timers. One task per pod uid, so that everything about a pod is in one order.

mod ending;
mod execute;
mod judge;
mod observe;
mod report;
mod resize;
mod stop;

pub(crate) use ending::clean;
pub(crate) use report::{REMOVABLE, is_own};
pub(crate) use stop::Stop;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use coracle_clock::{Instant, Timestamp};
use coracle_runtime::{ContainerId, ContainerStatus, Event, EventKind, SandboxId, SandboxStatus};
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::context::Context;
use super::kernel_support;
use super::network::Network;
use super::plan::{self, Busy, Memory, SandboxView, Situation};
use super::probe::{ProbeKind, Verdict};
use super::resize::Granted;
use super::start::StartFailure;
use super::start::sandbox::{SandboxFailure, SandboxUp};
use crate::objects::ApiError;
use crate::volume::{Failure, Tokens};

/// What others tell a worker. Only the newest state counts.
#[derive(Default)]
pub(crate) struct Inbox {
    slot: Mutex<Slot>,
    wake: Notify,
    ended: watch::Sender<bool>,
    /// The API knows of the end.
    told: watch::Sender<bool>,
}

#[derive(Default)]
struct Slot {
    pod: Option<Arc<Pod>>,
    gone: bool,
    /// Containers that something happened to.
    touched: BTreeSet<ContainerId>,
    /// The sandbox changed, or events were lost.
    recheck: bool,
    /// Objects that the pod's volumes and environment refer to have changed.
    objects: bool,
    /// How the API shows a static pod now.
    mirror: Option<Option<Arc<Pod>>>,
    /// The node ends the pod.
    stop: Option<Stop>,
    /// What the pod waited for has been granted.
    granted: bool,
    /// The disk is short: what an ended pod need not keep goes.
    reclaim: bool,
}

impl Inbox {
    /// The pod as the API has it now.
    pub(crate) fn pod(&self, pod: Arc<Pod>) {
        self.slot.lock().pod = Some(pod);
        self.wake.notify_one();
    }

    /// The API has the pod no more.
    pub(crate) fn gone(&self) {
        self.slot.lock().gone = true;
        self.wake.notify_one();
    }

    /// Something happened to the container.
    pub(crate) fn touched(&self, id: ContainerId) {
        self.slot.lock().touched.insert(id);
        self.wake.notify_one();
    }

    /// The sandbox changed, or it is unknown what did.
    pub(crate) fn recheck(&self) {
        self.slot.lock().recheck = true;
        self.wake.notify_one();
    }

    /// An object that the pod refers to has changed.
    pub(crate) fn objects(&self) {
        self.slot.lock().objects = true;
        self.wake.notify_one();
    }

    /// Something has happened in the runtime.
    pub(crate) fn happened(&self, event: &Event) {
        match (event.kind, &event.container) {
            (EventKind::SandboxStopped, _) => self.recheck(),
            (EventKind::Started | EventKind::Exited, Some(container)) => self.touched(container.clone()),
            _ => {}
        }
    }

    /// The mirror of a static pod has changed, or is no more.
    pub(crate) fn mirror(&self, mirror: Option<Arc<Pod>>) {
        self.slot.lock().mirror = Some(mirror);
        self.wake.notify_one();
    }

    /// The node ends the pod; the first reason counts.
    pub(crate) fn stop(&self, stop: Stop) {
        self.slot.lock().stop.get_or_insert(stop);
        self.wake.notify_one();
    }

    /// What the pod waited for has been granted.
    pub(crate) fn granted(&self) {
        self.slot.lock().granted = true;
        self.wake.notify_one();
    }

    /// The disk is short.
    pub(crate) fn reclaim(&self) {
        self.slot.lock().reclaim = true;
        self.wake.notify_one();
    }

    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Returns when the API knows of the pod's end.
    pub(crate) async fn told(&self) {
        let _ = self.told.subscribe().wait_for(|told| *told).await;
    }

    /// Returns when nothing of the pod runs any more.
    pub(crate) async fn ended(&self) {
        // The sender is this inbox's own.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

/// What is left of the pod from before the agent started.
#[derive(Default)]
pub(crate) struct Leftovers {
    pub(crate) sandboxes: Vec<SandboxStatus>,
    pub(crate) containers: Vec<ContainerStatus>,
}

/// How far the pod is.
enum Stage {
    /// It runs, or is on its way to.
    Live,
    /// Containers are being stopped; the deadline may move closer.
    Ending {
        deadline: watch::Sender<Instant>,
    },
    /// Nothing runs; the API still has the pod.
    Ended,
    /// What it left is being removed.
    Cleaning,
    /// The API is asked to forget the pod.
    Removing,
    Done,
}

/// What became of something that was started.
enum Done {
    Volumes(Result<BTreeMap<String, PathBuf>, Failure>),
    Sandbox(Result<SandboxUp, SandboxFailure>),
    Started {
        name: String,
        result: Result<ContainerId, StartFailure>,
    },
    PullBackOff {
        name: String,
    },
    Killed(ContainerId),
    /// Whether a sandbox lives.
    Looked {
        sandbox: SandboxId,
        lives: bool,
    },
    /// The runtime did not tell about it before.
    LookAgain(ContainerId),
    Resized(Result<Vec<ContainerId>, String>),
    Removed,
    Ended(Result<(), String>),
    StatusWritten {
        status: Box<PodStatus>,
        result: Result<(), ApiError>,
    },
    Cleaned(Result<(), String>),
    Forgotten(Result<(), ApiError>),
    NodeRead(Result<Option<Arc<Node>>, ApiError>),
    Refreshed(Result<(), Failure>),
}

/// Volumes, while they are made and after.
enum Volumes {
    Pending {
        retry_at: Option<Timestamp>,
        failures: u32,
        told: Option<String>,
    },
    Ready(BTreeMap<String, PathBuf>),
}

/// By which object of the node it is judged whether the pod belongs on it.
#[derive(Default)]
enum Judging {
    /// The one that was told last.
    #[default]
    Told,
    /// The API is asked for it.
    Asking,
    /// The one that the API has; none where it could not be had.
    Asked(Option<Arc<Node>>),
}

/// The worker of one pod.
pub(crate) struct Worker {
    cx: Arc<Context>,
    inbox: Arc<Inbox>,
    /// With the resources that it was granted.
    pod: Arc<Pod>,
    /// As the API has it.
    desired: Arc<Pod>,
    resize: resize::Resizing,
    /// How the API shows a static pod; it is told of the pod through this.
    mirror: Option<Arc<Pod>>,
    /// It has run before, or has been let in.
    admitted: bool,
    judging: Judging,
    gone: bool,
    stage: Stage,
    start_time: Timestamp,
    sandbox: Option<SandboxView>,
    /// The network of a sandbox that was found running.
    found: Option<Network>,
    pod_ips: Vec<String>,
    instances: BTreeMap<ContainerId, ContainerStatus>,
    memory: BTreeMap<String, Memory>,
    messages: BTreeMap<ContainerId, String>,
    images: BTreeMap<ContainerId, (String, String)>,
    lost: BTreeMap<String, u32>,
    volumes: Volumes,
    tokens: Arc<Tokens>,
    refresh_volumes: bool,
    refreshing: bool,
    /// After a failed refresh: not before then.
    refresh_after: Option<Timestamp>,
    busy: Busy,
    ops: JoinSet<Done>,
    /// Cancels the start that is under way.
    starting: Option<AbortHandle>,
    /// Cancel what makes volumes or brings them up to date.
    making_volumes: Vec<AbortHandle>,
    /// Shared by what makes volumes and sandboxes; the end waits for it, so that nothing is made after it.
    making: Arc<tokio::sync::RwLock<()>>,
    probes: BTreeMap<(ContainerId, ProbeKind), AbortHandle>,
    prober: JoinSet<()>,
    verdicts: (mpsc::Sender<Verdict>, mpsc::Receiver<Verdict>),
    created: (mpsc::Sender<ContainerId>, mpsc::Receiver<ContainerId>),
    /// Why the node ended the pod.
    ended: Option<(String, String)>,
    /// The node ends the pod, for this.
    stop: Option<Stop>,
    reported: PodStatus,
    writing: bool,
    write_failures: u32,
    retry_at: Option<Timestamp>,
}

impl Worker {
    pub(crate) fn new(cx: Arc<Context>, inbox: Arc<Inbox>, pod: Arc<Pod>, leftovers: Leftovers) -> Self {
        let now = cx.clock.now();
        let reported = pod.status.clone().unwrap_or_default();
        let start_time = reported.start_time.as_ref().map_or(now, |t| t.0);
        let desired = pod;
        let granted = Granted::read(&cx.pod_dir(desired.metadata.uid.as_deref().unwrap_or_default()));
        let pod = granted.map_or_else(|| desired.clone(), |granted| granted.apply(&desired));
        let mut worker = Self {
            inbox,
            pod,
            desired,
            resize: resize::Resizing::default(),
            mirror: None,
            admitted: false,
            judging: Judging::default(),
            gone: false,
            stage: Stage::Live,
            start_time,
            sandbox: None,
            found: None,
            pod_ips: reported.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
            instances: BTreeMap::new(),
            memory: BTreeMap::new(),
            messages: BTreeMap::new(),
            images: BTreeMap::new(),
            lost: BTreeMap::new(),
            volumes: Volumes::Pending {
                retry_at: None,
                failures: 0,
                told: None,
            },
            tokens: Arc::default(),
            refresh_volumes: false,
            refreshing: false,
            refresh_after: None,
            busy: Busy::default(),
            ops: JoinSet::new(),
            starting: None,
            making_volumes: Vec::new(),
            making: Arc::default(),
            probes: BTreeMap::new(),
            prober: JoinSet::new(),
            verdicts: mpsc::channel(16),
            created: mpsc::channel(4),
            ended: None,
            stop: None,
            reported,
            writing: false,
            write_failures: 0,
            retry_at: None,
            cx,
        };
        worker.adopt(leftovers);
        worker
    }

    /// Runs until nothing is left of the pod.
    pub(crate) async fn run(mut self) {
        loop {
            self.observe().await;
            let wake = self.advance();
            self.report();
            if matches!(self.stage, Stage::Ended) && !self.writing && !self.has_news() {
                self.inbox.told.send_replace(true);
            }
            if matches!(self.stage, Stage::Done) {
                return;
            }
            let clock = self.cx.clock;
            tokio::select! {
                () = self.inbox.wake.notified() => {}
                Some(done) = self.ops.join_next() => match done {
                    Ok(done) => self.absorb(done),
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => {
                        tracing::error!(pod = self.key(), %error, "a step of a pod's life panicked");
                        self.busy = Busy::default();
                        self.writing = false;
                        self.refreshing = false;
                        self.resize.under_way = false;
                        self.judging = Judging::default();
                    }
                },
                Some(verdict) = self.verdicts.1.recv() => self.judge(verdict),
                Some(id) = self.created.1.recv() => self.inbox.touched(id),
                Some(_) = self.prober.join_next() => {}
                () = sleep_until(clock, wake) => {}
            }
        }
    }

    /// One step: what the stage asks for. Returns when to look again though nothing happens.
    fn advance(&mut self) -> Option<Timestamp> {
        if matches!(self.stage, Stage::Live) {
            self.admit();
        }
        if matches!(self.stage, Stage::Live) {
            if self.stop.is_some() && !self.is_terminal() {
                self.stop_for_the_node();
            } else if self.gone || self.pod.metadata.deletion_timestamp.is_some() {
                self.end();
            } else if self.is_terminal() {
                let nothing_left = self.sandbox.is_none() && !self.instances.values().any(is_running);
                if nothing_left {
                    self.stage = Stage::Ended
                } else {
                    self.end()
                }
            }
        }
        self.refuse();
        let now = self.cx.clock.now();
        let mut wake = self.retry_at.filter(|at| *at > now);
        match &self.stage {
            // It is not known yet whether it may start.
            Stage::Live if !self.admitted => {}
            Stage::Live => {
                self.allocate();
                let plan = plan::plan(&self.situation());
                self.note_back_offs(&plan);
                if plan.finished {
                    self.finish();
                } else {
                    wake = sooner(wake, plan.wake);
                    for action in plan.actions {
                        self.execute(action);
                    }
                    self.probe();
                    wake = sooner(wake, self.refresh());
                    wake = sooner(wake, self.actuate());
                }
            }
            Stage::Ending { .. } => self.hurry(),
            Stage::Ended => self.after_end(),
            Stage::Cleaning | Stage::Removing | Stage::Done => {}
        }
        if matches!(
            self.stage,
            Stage::Ended | Stage::Cleaning | Stage::Removing | Stage::Done
        ) {
            self.cx.allocations.release(self.uid());
            self.inbox.ended.send_replace(true);
        }
        wake
    }

    /// Ends a pod that asks for what this node's kernel cannot give, before anything of it is started.
    fn refuse(&mut self) {
        if !matches!(self.stage, Stage::Live) || self.sandbox.is_some() || self.ended.is_some() {
            return;
        }
        self.ended = kernel_support::refusal(
            &self.pod,
            &self.cx.settings.allowed_unsafe_sysctls,
            kernel_support::AppArmor::detect,
        );
        if self.ended.is_some() {
            self.end();
        }
    }

    fn situation(&self) -> Situation<'_> {
        Situation {
            pod: &self.pod,
            now: self.cx.clock.now(),
            start_time: self.start_time,
            volumes: match &self.volumes {
                Volumes::Ready(_) => Ok(()),
                Volumes::Pending { retry_at, .. } => Err(*retry_at),
            },
            sandbox: self.sandbox.as_ref(),
            instances: &self.instances,
            memory: &self.memory,
            busy: &self.busy,
            lost: &self.lost,
        }
    }

    fn is_terminal(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|s| s.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    fn key(&self) -> String {
        super::security::shown(&self.pod)
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;

fn is_running(instance: &ContainerStatus) -> bool {
    instance.state == coracle_runtime::ContainerState::Running
}

fn sooner(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

async fn sleep_until(clock: coracle_clock::Clock, wake: Option<Timestamp>) {
    match wake {
        Some(when) => clock.sleep_until_time(when).await,
        None => std::future::pending().await,
    }
}
