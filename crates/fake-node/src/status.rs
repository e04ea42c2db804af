//! A pod's status as it follows from where the pod stands in its life. Pure.

use coracle_clock::Timestamp;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::life::{ContainerView, Run, State, View, Waiting, is_sidecar};

/// Where the pod is reached, by its own account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) host: String,
    pub(crate) pod: Option<String>,
    /// The second one, an IPv6 address.
    pub(crate) pod6: Option<String>,
}

/// A moment in whole seconds, as the API tells it.
pub(crate) fn time(ms: i64) -> Time {
    let seconds = Timestamp::from_second(ms.div_euclid(1000));
    Time(seconds.unwrap_or(Timestamp::MAX))
}

pub(crate) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// The status to report.
pub(crate) fn status(pod: &api::Pod, view: &View, addresses: &Addresses, accepted: i64, now: i64) -> api::PodStatus {
    let before = pod.status.clone().unwrap_or_default();
    let Some(spec) = &pod.spec else { return before };
    let maker = Maker { pod, now };
    let inits = spec.init_containers.iter().flatten();
    let init: Vec<_> = inits.zip(&view.init).map(|(c, v)| maker.container(c, v)).collect();
    let main: Vec<_> = spec
        .containers
        .iter()
        .zip(&view.main)
        .map(|(c, v)| maker.container(c, v))
        .collect();
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral: Vec<_> = ephemeral.map(|e| maker.ephemeral(e, &before, view)).collect();
    let phase = phase(spec, view);
    let conditions = conditions(pod, spec, view, phase, &init, &main, &before, now);
    let some = |list: Vec<api::ContainerStatus>| (!list.is_empty()).then_some(list);
    let pod_ip = before
        .pod_ip
        .clone()
        .or_else(|| addresses.pod.clone().filter(|_| view.networked));
    let second = before.pod_ips.as_ref().and_then(|all| Some(all.get(1)?.ip.clone()));
    let second = second.or_else(|| addresses.pod6.clone());
    let mut status = api::PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions),
        init_container_statuses: some(init),
        container_statuses: some(main),
        ephemeral_container_statuses: some(ephemeral),
        host_ip: Some(addresses.host.clone()),
        host_ips: Some(vec![api::HostIP {
            ip: addresses.host.clone(),
        }]),
        pod_ips: pod_ip.clone().map(|ip| {
            [Some(ip), second]
                .into_iter()
                .flatten()
                .map(|ip| api::PodIP { ip })
                .collect()
        }),
        pod_ip,
        start_time: before.start_time.clone().or_else(|| Some(time(accepted))),
        observed_generation: pod.metadata.generation,
        ..before
    };
    if view.ended && view.deadline_exceeded {
        status.reason = Some("DeadlineExceeded".into());
        status.message = Some("Pod was active on the node longer than the specified deadline".into());
    }
    status
}

/// The phase as the kubelet finds it.
fn phase(spec: &api::PodSpec, view: &View) -> &'static str {
    if view.ended {
        let completed = |v: &ContainerView| matches!(v.state, State::Exited(run) if run.code == 0);
        return if view.deadline_exceeded || !view.main.iter().all(completed) {
            "Failed"
        } else {
            "Succeeded"
        };
    }
    let init = spec.init_containers.iter().flatten().zip(&view.init);
    let mut unstarted_sidecars = init.filter(|(c, v)| is_sidecar(c) && !v.has_begun());
    let begun = view.main.iter().all(ContainerView::has_begun);
    if view.initialized && begun && unstarted_sidecars.next().is_none() {
        "Running"
    } else {
        "Pending"
    }
}

struct Maker<'a> {
    pod: &'a api::Pod,
    now: i64,
}

impl Maker<'_> {
    fn container(&self, spec: &api::Container, view: &ContainerView) -> api::ContainerStatus {
        let running = matches!(view.state, State::Running { .. });
        let image = spec.image.clone().unwrap_or_default();
        let runs = match view.state {
            State::Waiting(_) if view.last.is_none() => None,
            // One that waits to run again shows the run before.
            _ => Some(view.restarts),
        };
        api::ContainerStatus {
            name: spec.name.clone(),
            image: image.clone(),
            image_id: String::new(),
            container_id: runs.map(|run| self.id(&spec.name, run)),
            ready: view.ready,
            started: Some(view.started),
            restart_count: view.restarts,
            state: Some(self.state(spec, view)),
            last_state: Some(self.last_state(spec, view)),
            allocated_resources: spec
                .resources
                .as_ref()
                .filter(|_| running)
                .and_then(|r| r.requests.clone()),
            resources: spec.resources.clone().filter(|_| running),
            volume_mounts: spec.volume_mounts.as_ref().map(|all| all.iter().map(mount).collect()),
            ..api::ContainerStatus::default()
        }
    }

    /// The number of the run before this one.
    fn last_run(&self, view: &ContainerView) -> i32 {
        match view.state {
            State::Waiting(_) => view.restarts,
            _ => view.restarts - 1,
        }
    }

    /// The id says what it is: no runtime knows it.
    fn id(&self, container: &str, run: i32) -> String {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        format!("fake://{uid}/{container}/{run}")
    }

    /// What was told of the container before.
    fn told(&self, container: &str) -> Option<&api::ContainerStatus> {
        let status = self.pod.status.as_ref()?;
        let mut all = status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten();
        all.find(|c| c.name == container)
    }

    /// The state; of a run that was told already as it was told. (After a restart of this process a run's moments are
    /// known to the second only.)
    fn state(&self, spec: &api::Container, view: &ContainerView) -> api::ContainerState {
        let fresh = self.fresh_state(spec, view);
        let Some((told, state)) = self.told(&spec.name).and_then(|t| Some((t, t.state.as_ref()?))) else {
            return fresh;
        };
        let same = match (&fresh.running, &fresh.terminated) {
            (Some(_), _) => {
                state.running.is_some() && told.container_id.as_ref() == Some(&self.id(&spec.name, view.restarts))
            }
            (_, Some(end)) => state
                .terminated
                .as_ref()
                .is_some_and(|t| t.container_id == end.container_id),
            _ => false,
        };
        if same { state.clone() } else { fresh }
    }

    fn last_state(&self, spec: &api::Container, view: &ContainerView) -> api::ContainerState {
        let Some(run) = view.last else {
            return api::ContainerState::default();
        };
        let fresh = self.terminated(spec, &run, self.last_run(view));
        let told = self.told(&spec.name).and_then(|t| t.last_state.as_ref());
        let id = |state: &api::ContainerState| state.terminated.as_ref().and_then(|t| t.container_id.clone());
        match told {
            Some(told) if id(told) == id(&fresh) => told.clone(),
            _ => fresh,
        }
    }

    fn fresh_state(&self, spec: &api::Container, view: &ContainerView) -> api::ContainerState {
        match view.state {
            State::Waiting(reason) => self.waiting(spec, reason),
            State::Running { since } => api::ContainerState {
                running: Some(api::ContainerStateRunning {
                    started_at: Some(time(since)),
                }),
                ..api::ContainerState::default()
            },
            State::Exited(run) => self.terminated(spec, &run, view.restarts),
        }
    }

    fn waiting(&self, spec: &api::Container, reason: Waiting) -> api::ContainerState {
        let image = spec.image.as_deref().unwrap_or_default();
        let (reason, message) = match reason {
            Waiting::ContainerCreating => ("ContainerCreating", None),
            Waiting::PodInitializing => ("PodInitializing", None),
            Waiting::ImagePullBackOff => (
                "ImagePullBackOff",
                Some(format!(
                    "Back-off pulling image \"{image}\": ErrImagePull: the fake node's configuration lets this pull fail"
                )),
            ),
            Waiting::CrashLoopBackOff(pause) => {
                let meta = &self.pod.metadata;
                let text = |t: &Option<String>| t.clone().unwrap_or_default();
                let pause = match pause / 1000 {
                    s if s < 60 => format!("{s}s"),
                    s => format!("{}m{}s", s / 60, s % 60),
                };
                let message = format!(
                    "back-off {pause} restarting failed container={} pod={}_{}({})",
                    spec.name,
                    text(&meta.name),
                    text(&meta.namespace),
                    text(&meta.uid)
                );
                ("CrashLoopBackOff", Some(message))
            }
        };
        api::ContainerState {
            waiting: Some(api::ContainerStateWaiting {
                reason: Some(reason.into()),
                message,
            }),
            ..api::ContainerState::default()
        }
    }

    fn terminated(&self, spec: &api::Container, run: &Run, number: i32) -> api::ContainerState {
        let reason = if run.code == 0 { "Completed" } else { "Error" };
        api::ContainerState {
            terminated: Some(api::ContainerStateTerminated {
                container_id: Some(self.id(&spec.name, number)),
                exit_code: run.code,
                reason: Some(reason.into()),
                started_at: Some(time(run.start)),
                finished_at: Some(time(run.end)),
                ..api::ContainerStateTerminated::default()
            }),
            ..api::ContainerState::default()
        }
    }

    /// Containers for debugging run from when they are first seen until the pod ends.
    fn ephemeral(&self, spec: &api::EphemeralContainer, before: &api::PodStatus, view: &View) -> api::ContainerStatus {
        let old = before.ephemeral_container_statuses.iter().flatten();
        let since = old
            .filter(|s| s.name == spec.name)
            .find_map(|s| s.state.as_ref()?.running.as_ref()?.started_at.clone());
        let since = since.map_or(self.now, |t| millis(t.0));
        let mut container = ContainerView {
            state: State::Running { since },
            last: None,
            restarts: 0,
            started: true,
            ready: false,
        };
        if view.ended {
            container.state = State::Exited(Run {
                start: since,
                end: self.now,
                code: 137,
                finished: false,
            });
        }
        let as_container = api::Container {
            name: spec.name.clone(),
            image: spec.image.clone(),
            ..api::Container::default()
        };
        self.container(&as_container, &container)
    }
}

fn mount(mount: &api::VolumeMount) -> api::VolumeMountStatus {
    let read_only = mount.read_only == Some(true);
    let recursive = match mount.recursive_read_only.as_deref() {
        _ if !read_only => None,
        Some("Enabled" | "IfPossible") => Some("Enabled".to_owned()),
        _ => Some("Disabled".to_owned()),
    };
    api::VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: read_only.then_some(true),
        recursive_read_only: recursive,
        ..api::VolumeMountStatus::default()
    }
}

struct Wanted {
    kind: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Wanted {
    fn plain(kind: &'static str, holds: bool) -> Self {
        Self {
            kind,
            holds,
            reason: None,
            message: None,
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn conditions(
    pod: &api::Pod,
    spec: &api::PodSpec,
    view: &View,
    phase: &str,
    init: &[api::ContainerStatus],
    main: &[api::ContainerStatus],
    before: &api::PodStatus,
    now: i64,
) -> Vec<api::PodCondition> {
    let list = |names: &[&str]| format!("[{}]", names.join(" "));
    let mut wanted = vec![Wanted::plain("PodReadyToStartContainers", view.networked)];

    let inits = || spec.init_containers.iter().flatten().zip(init);
    let incomplete: Vec<&str> = inits()
        .filter(|(c, s)| {
            if is_sidecar(c) {
                s.started != Some(true)
            } else {
                !s.ready
            }
        })
        .map(|(c, _)| c.name.as_str())
        .collect();
    wanted.push(match phase {
        "Succeeded" => Wanted {
            reason: Some("PodCompleted"),
            ..Wanted::plain("Initialized", true)
        },
        _ if view.initialized || incomplete.is_empty() => Wanted::plain("Initialized", true),
        _ => Wanted {
            reason: Some("ContainersNotInitialized"),
            message: Some(format!("containers with incomplete status: {}", list(&incomplete))),
            ..Wanted::plain("Initialized", false)
        },
    });

    let sidecars = inits().filter(|(c, _)| is_sidecar(c)).map(|(_, s)| s);
    let unready: Vec<&str> = sidecars
        .chain(main)
        .filter(|s| !s.ready)
        .map(|s| s.name.as_str())
        .collect();
    let ready = |kind| match phase {
        "Succeeded" | "Failed" => Wanted {
            reason: Some(if phase == "Failed" { "PodFailed" } else { "PodCompleted" }),
            ..Wanted::plain(kind, false)
        },
        _ if unready.is_empty() => Wanted::plain(kind, true),
        _ => Wanted {
            reason: Some("ContainersNotReady"),
            message: Some(format!("containers with unready status: {}", list(&unready))),
            ..Wanted::plain(kind, false)
        },
    };
    let mut pod_ready = ready("Ready");
    if let (true, Some(message)) = (pod_ready.holds, closed_gate(spec, before)) {
        pod_ready = Wanted {
            reason: Some("ReadinessGatesNotReady"),
            message: Some(message),
            ..Wanted::plain("Ready", false)
        };
    }
    wanted.push(pod_ready);
    wanted.push(ready("ContainersReady"));
    wanted.push(Wanted::plain("PodScheduled", true));

    let old = before.conditions.as_deref().unwrap_or_default();
    let own = wanted.into_iter().map(|w| {
        let status = if w.holds { "True" } else { "False" };
        let since = old.iter().find(|c| c.type_ == w.kind && c.status == status);
        api::PodCondition {
            type_: w.kind.to_owned(),
            status: status.to_owned(),
            reason: w.reason.map(str::to_owned),
            message: w.message,
            last_transition_time: since
                .and_then(|c| c.last_transition_time.clone())
                .or_else(|| Some(time(now))),
            observed_generation: pod.metadata.generation,
            last_probe_time: None,
        }
    });
    let mut all: Vec<_> = own.collect();
    let others: Vec<_> = old
        .iter()
        .filter(|c| !all.iter().any(|a| a.type_ == c.type_))
        .cloned()
        .collect();
    all.extend(others);
    all
}

/// Why a readiness gate is not open, if one is not.
fn closed_gate(spec: &api::PodSpec, before: &api::PodStatus) -> Option<String> {
    spec.readiness_gates.iter().flatten().find_map(|gate| {
        let kind = &gate.condition_type;
        match before.conditions.iter().flatten().find(|c| c.type_ == *kind) {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{kind}\" does not exist."
            )),
            Some(c) if c.status != "True" => Some(format!(
                "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                c.status
            )),
            Some(_) => None,
        }
    })
}

/// Whether the two say the same, whatever the order of conditions.
pub(crate) fn same(a: &api::PodStatus, b: &api::PodStatus) -> bool {
    let sorted = |status: &api::PodStatus| {
        let mut conditions = status.conditions.clone().unwrap_or_default();
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        conditions
    };
    let rest = |status: &api::PodStatus| api::PodStatus {
        conditions: None,
        ..status.clone()
    };
    rest(a) == rest(b) && sorted(a) == sorted(b)
}
