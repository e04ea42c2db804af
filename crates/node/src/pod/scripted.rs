//! A runtime in memory, for tests of pods in virtual time: containers do what a script says. How a worker sees it is in
//! [`runtime`], the API and the network beside it in [`api`].

mod api;
mod runtime;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::{Clock, Timestamp};
use coracle_runtime::*;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

pub(crate) use api::{Written, context};

/// How a run of a container ends: after how long, and with which code.
pub(crate) type Run = (Duration, i32);

pub(crate) struct Scripted {
    clock: Clock,
    start: Timestamp,
    events: broadcast::Sender<Event>,
    changed: watch::Sender<u64>,
    hung: watch::Sender<bool>,
    held: watch::Sender<Option<&'static str>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sandboxes: Vec<SandboxStatus>,
    containers: BTreeMap<ContainerId, ContainerStatus>,
    next: u32,
    log: Vec<String>,
    runs: HashMap<String, VecDeque<Run>>,
    stubborn: Vec<String>,
    ends_well: Vec<String>,
    execs: HashMap<String, VecDeque<i32>>,
    /// By name; and whether it came from a registry, and how large it is.
    images: BTreeMap<String, (bool, u64)>,
    pulls: VecDeque<bool>,
    working_sets: HashMap<String, u64>,
    /// Resources that pods' groups were given, in turn.
    pod_limits: Vec<Resources>,
}

impl Scripted {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        let state = State {
            images: [("image:1".to_owned(), (false, 7))].into(),
            ..State::default()
        };
        Arc::new(Self {
            clock,
            start: clock.now(),
            events: broadcast::channel(1024).0,
            changed: watch::channel(0).0,
            hung: watch::channel(false).0,
            held: watch::channel(None).0,
            state: Mutex::new(state),
        })
    }

    /// The next runs of the container end like this; later ones do not end by themselves.
    pub(crate) fn runs(&self, name: &str, runs: impl IntoIterator<Item = Run>) {
        self.state.lock().runs.entry(name.into()).or_default().extend(runs);
    }

    /// The container ignores every signal but KILL.
    pub(crate) fn stubborn(&self, name: &str) {
        self.state.lock().stubborn.push(name.into());
    }

    /// The container ends with code 0 when it is told to.
    pub(crate) fn ends_well(&self, name: &str) {
        self.state.lock().ends_well.push(name.into());
    }

    /// Exit codes of the command in turn; the last one stays.
    pub(crate) fn execs(&self, command: &str, codes: impl IntoIterator<Item = i32>) {
        self.state
            .lock()
            .execs
            .insert(command.into(), codes.into_iter().collect());
    }

    /// What the next pulls come to.
    pub(crate) fn pulls(&self, results: impl IntoIterator<Item = bool>) {
        self.state.lock().pulls.extend(results);
    }

    /// An image that is there.
    pub(crate) fn image(&self, name: &str, size: u64, pulled: bool) {
        self.state.lock().images.insert(name.into(), (pulled, size));
    }

    /// A container that is made of the image, and has ended.
    pub(crate) fn uses(&self, image: &str) {
        let id = ContainerId::new(format!("of-{image}"));
        let mut status = self.blank(&id, &SandboxId::new("other-0"), image);
        status.state = ContainerState::Exited;
        self.state.lock().containers.insert(id, status);
    }

    /// Calls are not answered until it is taken back.
    pub(crate) fn hang(&self, hung: bool) {
        self.hung.send_replace(hung);
    }

    /// Calls of this name do their work only when another is named or none, whether they are still waited for or not.
    pub(crate) fn hold(&self, call: Option<&'static str>) {
        self.held.send_replace(call);
    }

    async fn held(&self, call: &'static str) {
        let _ = self.held.subscribe().wait_for(|held| *held != Some(call)).await;
    }

    async fn answer(&self) {
        let _ = self.hung.subscribe().wait_for(|hung| !hung).await;
    }

    /// How much memory the container uses.
    pub(crate) fn working_set(&self, name: &str, bytes: u64) {
        self.state.lock().working_sets.insert(name.into(), bytes);
    }

    /// The resources that pods' groups were given since it was asked last.
    pub(crate) fn take_pod_limits(&self) -> Vec<Resources> {
        std::mem::take(&mut self.state.lock().pod_limits)
    }

    fn blank(&self, id: &ContainerId, sandbox: &SandboxId, image: &str) -> ContainerStatus {
        ContainerStatus {
            id: id.clone(),
            sandbox: sandbox.clone(),
            created_at: self.clock.now(),
            image: image.to_owned(),
            image_id: ImageId::new(image),
            ..instance("", 0, ContainerState::Created)
        }
    }

    /// What was called, with the second it was called at; taken.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().log)
    }

    pub(crate) fn all(&self) -> (Vec<SandboxStatus>, Vec<ContainerStatus>) {
        let state = self.state.lock();
        (state.sandboxes.clone(), state.containers.values().cloned().collect())
    }

    /// The pod's shim dies, and everything in it.
    pub(crate) fn kill_sandbox(&self) {
        let (sandboxes, containers) = self.all();
        for c in containers.iter().filter(|c| c.state == ContainerState::Running) {
            self.finish(&c.id, 137);
        }
        self.state
            .lock()
            .sandboxes
            .iter_mut()
            .for_each(|s| s.state = SandboxState::NotReady);
        for s in sandboxes {
            self.tell(EventKind::SandboxStopped, &s.id, None);
        }
    }

    fn log(&self, what: impl Into<String>) {
        let at = self.clock.now().duration_since(self.start).as_secs();
        self.state.lock().log.push(format!("{at} {}", what.into()));
    }

    fn tell(&self, kind: EventKind, sandbox: &SandboxId, container: Option<&ContainerId>) {
        let _ = self.events.send(Event {
            kind,
            sandbox: sandbox.clone(),
            container: container.cloned(),
        });
        self.changed.send_modify(|n| *n += 1);
    }

    fn finish(&self, id: &ContainerId, code: i32) {
        let sandbox = {
            let mut state = self.state.lock();
            let Some(c) = state
                .containers
                .get_mut(id)
                .filter(|c| c.state == ContainerState::Running)
            else {
                return;
            };
            c.state = ContainerState::Exited;
            c.exit_code = Some(code);
            c.finished_at = Some(self.clock.now());
            c.sandbox.clone()
        };
        self.tell(EventKind::Exited, &sandbox, Some(id));
    }

    fn run_sandbox(&self, config: SandboxConfig) -> Result<Sandbox> {
        let id = config.id.clone().unwrap();
        if self.state.lock().sandboxes.iter().any(|s| s.id == id) {
            return Err(Error::SandboxExists(id.to_string()));
        }
        if !["", "gvisor"].contains(&config.handler.as_str()) {
            return Err(Error::NoSuchHandler(config.handler));
        }
        self.log("run_sandbox");
        let status = SandboxStatus {
            id: id.clone(),
            config,
            state: SandboxState::Ready,
            created_at: self.clock.now(),
            pid: Some(1),
            netns: Some("/proc/1/ns/net".into()),
            addresses: None,
        };
        self.state.lock().sandboxes.push(status);
        self.tell(EventKind::SandboxReady, &id, None);
        Ok(Sandbox {
            id,
            pid: 1,
            netns: "/proc/1/ns/net".into(),
            addresses: None,
        })
    }

    fn start_container(self: &Arc<Self>, id: &ContainerId) -> Result<()> {
        let (name, sandbox, run) = {
            let mut state = self.state.lock();
            let Some(c) = state.containers.get_mut(id) else {
                return Err(Error::NoSuchContainer(id.to_string()));
            };
            c.state = ContainerState::Running;
            c.started_at = Some(self.clock.now());
            let (name, sandbox) = (c.name.clone(), c.sandbox.clone());
            let run = state.runs.get_mut(&name).and_then(VecDeque::pop_front);
            (name, sandbox, run)
        };
        self.log(format!("start {name}"));
        self.tell(EventKind::Started, &sandbox, Some(id));
        if let Some((after, code)) = run {
            let (this, id) = (self.clone(), id.clone());
            tokio::spawn(async move {
                this.clock.sleep(after).await;
                this.finish(&id, code);
            });
        }
        Ok(())
    }

    fn get(&self, id: &ContainerId) -> Result<ContainerStatus> {
        self.state
            .lock()
            .containers
            .get(id)
            .cloned()
            .ok_or_else(|| Error::NoSuchContainer(id.to_string()))
    }
}

/// The same runtime, shared by test and worker.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<Scripted>);

/// An instance of a container in sandbox `sb`, made when 2026 began.
pub(crate) fn instance(name: &str, attempt: u32, state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        id: ContainerId::new(format!("{name}-{attempt}")),
        sandbox: SandboxId::new("sb"),
        name: name.into(),
        attempt,
        state,
        pid: None,
        exit_code: None,
        oom_killed: false,
        created_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        started_at: None,
        finished_at: None,
        image: "i".into(),
        image_id: ImageId::new("sha256:0"),
        log_path: None,
        reason: None,
        message: None,
        stop_signal: 15,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        user: 0,
        group: 0,
        supplemental_groups: vec![],
        mounts: vec![],
        resources: Resources::default(),
    }
}
