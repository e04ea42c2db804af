//! A pod's status as it follows from what is observed: container states, conditions, phase. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use coracle_clock::Timestamp;
use coracle_runtime::{ContainerId, ContainerState as State, ContainerStatus as Instance};
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{Memory, SandboxView, init_containers, is_sidecar, restarts, returns};
use super::resize;
use super::resources::Qos;
use super::start::config::VOLUME_IMAGES_ANNOTATION;
use super::worker::REMOVABLE;

/// Everything that a status is made from.
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a api::Pod,
    /// The status as it was last; what nobody observes any more is taken from it.
    pub(crate) previous: &'a api::PodStatus,
    pub(crate) now: Timestamp,
    pub(crate) start_time: Timestamp,
    pub(crate) sandbox: Option<&'a SandboxView>,
    pub(crate) instances: &'a BTreeMap<ContainerId, Instance>,
    pub(crate) memory: &'a BTreeMap<String, Memory>,
    /// Termination messages by instance.
    pub(crate) messages: &'a BTreeMap<ContainerId, String>,
    /// Image names and ids by instance, as statuses show them.
    pub(crate) images: &'a BTreeMap<ContainerId, (String, String)>,
    pub(crate) pod_ips: &'a [String],
    pub(crate) host_ips: &'a [String],
    /// The pod is being stopped and starts nothing any more.
    pub(crate) stopping: bool,
    /// Nothing of it runs any more, nor will.
    pub(crate) stopped: bool,
    /// Why the node ended the pod (`DeadlineExceeded`, ...).
    pub(crate) ended: Option<&'a (String, String)>,
    /// The container whose start is not over: its postStart hook may still run.
    pub(crate) starting: Option<&'a str>,
    /// Conditions that come and go, as they are now.
    pub(crate) told: Vec<Told>,
    /// The container runtime's name.
    pub(crate) runtime: &'a str,
}

/// A condition that holds now and did not always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) kind: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) generation: Option<i64>,
}

/// The status to report.
pub(crate) fn status(facts: &Facts<'_>) -> api::PodStatus {
    let Some(spec) = &facts.pod.spec else {
        return facts.previous.clone();
    };
    let initialized = initialized(facts, spec);
    let init =
        init_containers(spec).map(|c| container(facts, c, &facts.previous.init_container_statuses, true, initialized));
    let init: Vec<_> = init.collect();
    let main = spec
        .containers
        .iter()
        .map(|c| container(facts, c, &facts.previous.container_statuses, false, initialized));
    let main: Vec<_> = main.collect();
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|e| {
        let as_container = from_ephemeral(e);
        container(
            facts,
            &as_container,
            &facts.previous.ephemeral_container_statuses,
            false,
            true,
        )
    });
    let ephemeral: Vec<_> = ephemeral.collect();
    let phase = phase(facts, spec, &init, &main);
    let conditions = conditions(facts, spec, &phase, &init, &main);
    let some = |list: Vec<api::ContainerStatus>| (!list.is_empty()).then_some(list);
    api::PodStatus {
        phase: Some(phase),
        conditions: Some(conditions),
        init_container_statuses: some(init),
        container_statuses: some(main),
        ephemeral_container_statuses: some(ephemeral),
        host_ip: facts.host_ips.first().cloned(),
        host_ips: Some(facts.host_ips.iter().map(|ip| api::HostIP { ip: ip.clone() }).collect()),
        pod_ip: facts.pod_ips.first().cloned(),
        pod_ips: (!facts.pod_ips.is_empty())
            .then(|| facts.pod_ips.iter().map(|ip| api::PodIP { ip: ip.clone() }).collect()),
        start_time: Some(Time(facts.start_time)),
        qos_class: Some(Qos::of(facts.pod).name().to_owned()),
        observed_generation: facts.pod.metadata.generation,
        reason: facts
            .ended
            .map(|(reason, _)| reason.clone())
            .or_else(|| facts.previous.reason.clone()),
        message: facts
            .ended
            .map(|(_, message)| message.clone())
            .or_else(|| facts.previous.message.clone()),
        ..facts.previous.clone()
    }
}

/// An ephemeral container as the container that it is, but for its target.
pub(crate) fn from_ephemeral(ephemeral: &api::EphemeralContainer) -> api::Container {
    api::Container {
        args: ephemeral.args.clone(),
        command: ephemeral.command.clone(),
        env: ephemeral.env.clone(),
        env_from: ephemeral.env_from.clone(),
        image: ephemeral.image.clone(),
        image_pull_policy: ephemeral.image_pull_policy.clone(),
        name: ephemeral.name.clone(),
        restart_policy: Some("Never".into()),
        security_context: ephemeral.security_context.clone(),
        stdin: ephemeral.stdin,
        stdin_once: ephemeral.stdin_once,
        termination_message_path: ephemeral.termination_message_path.clone(),
        termination_message_policy: ephemeral.termination_message_policy.clone(),
        tty: ephemeral.tty,
        volume_mounts: ephemeral.volume_mounts.clone(),
        working_dir: ephemeral.working_dir.clone(),
        ..api::Container::default()
    }
}

fn of_name<'a>(facts: &'a Facts<'_>, name: &str) -> Vec<&'a Instance> {
    let mut list: Vec<_> = facts.instances.values().filter(|i| i.name == name).collect();
    list.sort_by_key(|i| std::cmp::Reverse((i.attempt, i.created_at)));
    list
}

/// The init containers are over and done with.
fn initialized(facts: &Facts<'_>, spec: &api::PodSpec) -> bool {
    let begun = spec.containers.iter().any(|c| !of_name(facts, &c.name).is_empty());
    begun
        || init_containers(spec).all(|c| {
            let latest = of_name(facts, &c.name).first().copied();
            if is_sidecar(c) {
                latest.is_some_and(|i| i.state == State::Running && started(facts, c, i))
            } else {
                latest.is_some_and(|i| i.state == State::Exited && i.exit_code == Some(0))
            }
        })
}

fn started(facts: &Facts<'_>, container: &api::Container, instance: &Instance) -> bool {
    facts.memory.get(&container.name).and_then(|m| m.started.as_ref()) == Some(&instance.id)
}

fn container(
    facts: &Facts<'_>,
    spec: &api::Container,
    previous: &Option<Vec<api::ContainerStatus>>,
    is_init: bool,
    initialized: bool,
) -> api::ContainerStatus {
    let previous = previous.iter().flatten().find(|p| p.name == spec.name);
    let instances = of_name(facts, &spec.name);
    let memory = facts.memory.get(&spec.name);
    let (latest, before) = match instances.as_slice() {
        [latest, rest @ ..] if latest.state != State::Created => (Some(*latest), rest.first().copied()),
        [_, rest @ ..] => (rest.first().copied(), rest.get(1).copied()),
        [] => (None, None),
    };
    let waiting_reason = || {
        let (reason, message) = match memory.and_then(|m| m.waiting.clone()) {
            Some((reason, message)) => (reason, Some(message).filter(|m| !m.is_empty())),
            None if !initialized && !is_init => ("PodInitializing".into(), None),
            None if is_init
                && facts
                    .pod
                    .spec
                    .as_ref()
                    .is_some_and(|s| init_containers(s).next().map(|c| &c.name) != Some(&spec.name)) =>
            {
                ("PodInitializing".into(), None)
            }
            None => ("ContainerCreating".into(), None),
        };
        api::ContainerState {
            waiting: Some(api::ContainerStateWaiting {
                reason: Some(reason),
                message,
            }),
            ..api::ContainerState::default()
        }
    };
    let terminated = |instance: &Instance| terminated_state(facts, instance);
    let lost = |p: &api::ContainerStatus| {
        p.state
            .clone()
            .filter(|s| s.terminated.is_some())
            .or_else(|| p.last_state.clone())
    };
    // Until its postStart hook has ended a container is not shown as running.
    let hooked = spec.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some());
    let begins = hooked && facts.starting == Some(&spec.name) && !facts.stopping;
    let (state, last_state) = match latest {
        Some(i) if i.state == State::Running && begins => {
            let last = before.filter(|b| b.state == State::Exited).map(terminated);
            (waiting_reason(), last)
        }
        Some(i) if i.state == State::Running => {
            let state = api::ContainerState {
                running: Some(api::ContainerStateRunning {
                    started_at: i.started_at.map(Time),
                }),
                ..api::ContainerState::default()
            };
            let last = before.filter(|b| b.state == State::Exited).map(terminated);
            (
                state,
                last.or_else(|| {
                    previous
                        .filter(|p| p.restart_count > 0)
                        .and_then(|p| p.last_state.clone())
                }),
            )
        }
        Some(i) => {
            let comes_back = !facts.stopping
                && memory.is_some_and(|m| m.waiting.is_some())
                && (returns(facts.pod, spec, i, memory) || is_sidecar(spec));
            if comes_back && !(is_init && !is_sidecar(spec) && i.exit_code == Some(0)) {
                (waiting_reason(), Some(terminated(i)))
            } else {
                let last = before.filter(|b| b.state == State::Exited).map(terminated);
                (
                    terminated(i),
                    last.or_else(|| previous.and_then(|p| p.last_state.clone())),
                )
            }
        }
        None => match previous {
            // The runtime has lost it: an end that was reported stays, a running one ended in the dark.
            Some(p)
                if p.container_id.is_some()
                    && (facts.stopping || p.state.as_ref().is_some_and(|s| s.terminated.is_some())) =>
            {
                let state = p
                    .state
                    .clone()
                    .filter(|s| s.terminated.is_some())
                    .unwrap_or_else(|| unknown_end(p));
                (state, p.last_state.clone())
            }
            Some(p) if p.container_id.is_some() => (waiting_reason(), lost(p).or_else(|| Some(unknown_end(p)))),
            _ => (waiting_reason(), None),
        },
    };
    let running = latest.filter(|i| i.state == State::Running && !begins);
    let has_started = running.is_some_and(|i| started(facts, spec, i));
    let ready = match running {
        Some(i) if spec.readiness_probe.is_some() => {
            has_started && memory.and_then(|m| m.ready.as_ref()) == Some(&i.id)
        }
        Some(_) => has_started,
        None => is_init && !is_sidecar(spec) && state.terminated.as_ref().is_some_and(|t| t.exit_code == 0),
    };
    let shown = instances.first().copied();
    let (image, image_id) = shown
        .and_then(|i| facts.images.get(&i.id).cloned())
        .or_else(|| previous.map(|p| (p.image.clone(), p.image_id.clone())))
        .unwrap_or_else(|| (spec.image.clone().unwrap_or_default(), String::new()));
    let restart_count = instances.first().map_or(previous.map_or(0, |p| p.restart_count), |i| {
        i32::try_from(i.attempt).unwrap_or(i32::MAX)
    });
    api::ContainerStatus {
        name: spec.name.clone(),
        image,
        image_id,
        container_id: latest
            .map(|i| container_id(facts.runtime, &i.id))
            .or_else(|| previous.and_then(|p| p.container_id.clone())),
        ready,
        started: Some(has_started),
        restart_count,
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        allocated_resources: running.and_then(|_| spec.resources.as_ref()?.requests.clone()),
        resources: running.and_then(|i| resize::shown(facts.pod, spec, i)),
        stop_signal: shown.and_then(|i| signal_name(i.stop_signal)),
        user: running.map(user),
        volume_mounts: spec
            .volume_mounts
            .as_ref()
            .map(|mounts| mounts.iter().map(|m| mount(m, latest)).collect()),
        ..api::ContainerStatus::default()
    }
}

fn signal_name(number: i32) -> Option<String> {
    let signal = nix::sys::signal::Signal::try_from(number).ok()?;
    Some(signal.as_str().to_owned())
}

fn user(instance: &Instance) -> api::ContainerUser {
    let mut groups: Vec<i64> = instance.supplemental_groups.iter().map(|g| i64::from(*g)).collect();
    if !groups.contains(&i64::from(instance.group)) {
        groups.insert(0, i64::from(instance.group));
    }
    api::ContainerUser {
        linux: Some(api::LinuxContainerUser {
            uid: instance.user.into(),
            gid: instance.group.into(),
            supplemental_groups: Some(groups),
        }),
    }
}

/// What was asked for, and what has come of it where the container has been made.
fn mount(mount: &api::VolumeMount, instance: Option<&Instance>) -> api::VolumeMountStatus {
    let read_only = mount.read_only == Some(true);
    let path = Path::new("/").join(&mount.mount_path);
    let made = instance.and_then(|i| i.mounts.iter().find(|m| m.container_path == path));
    let recursive = match mount.recursive_read_only.as_deref() {
        _ if !read_only => None,
        Some("Enabled") => Some("Enabled".to_owned()),
        Some("IfPossible") if made.is_some_and(|made| made.recursive_readonly) => Some("Enabled".to_owned()),
        _ => Some("Disabled".to_owned()),
    };
    let images = instance.and_then(|i| i.annotations.get(VOLUME_IMAGES_ANNOTATION));
    let images: Option<BTreeMap<String, String>> = images.and_then(|text| serde_json::from_str(text).ok());
    let image = images.and_then(|mut images| images.remove(&mount.name));
    api::VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: read_only.then_some(true),
        recursive_read_only: recursive,
        volume_status: image.map(|image_ref| api::VolumeStatus {
            image: Some(api::ImageVolumeStatus { image_ref }),
        }),
    }
}

pub(crate) fn container_id(runtime: &str, id: &ContainerId) -> String {
    format!("{runtime}://{id}")
}

fn unknown_end(previous: &api::ContainerStatus) -> api::ContainerState {
    api::ContainerState {
        terminated: Some(api::ContainerStateTerminated {
            container_id: previous.container_id.clone(),
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            ..api::ContainerStateTerminated::default()
        }),
        ..api::ContainerState::default()
    }
}

fn terminated_state(facts: &Facts<'_>, instance: &Instance) -> api::ContainerState {
    let code = instance.exit_code.unwrap_or(137);
    let reason = instance.reason.clone().unwrap_or_else(|| {
        let reason = match (instance.oom_killed, code) {
            (true, _) => "OOMKilled",
            (_, 0) => "Completed",
            _ => "Error",
        };
        reason.to_owned()
    });
    let message = facts
        .messages
        .get(&instance.id)
        .filter(|m| !m.is_empty())
        .or(instance.message.as_ref());
    api::ContainerState {
        terminated: Some(api::ContainerStateTerminated {
            container_id: Some(container_id(facts.runtime, &instance.id)),
            exit_code: code,
            // Upstream's runtimes report the signal in the exit code alone.
            signal: None,
            reason: Some(reason),
            message: message.cloned(),
            started_at: Some(Time(instance.started_at.unwrap_or(instance.created_at))),
            finished_at: instance.finished_at.map(Time),
        }),
        ..api::ContainerState::default()
    }
}

fn phase(
    facts: &Facts<'_>,
    spec: &api::PodSpec,
    init: &[api::ContainerStatus],
    main: &[api::ContainerStatus],
) -> String {
    let previous = facts.previous.phase.as_deref().unwrap_or("Pending");
    if matches!(previous, "Succeeded" | "Failed") {
        return previous.to_owned();
    }
    let terminated = |s: &api::ContainerStatus| {
        s.state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .map(|t| t.exit_code)
    };
    let ended_before = |s: &api::ContainerStatus| s.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
    let is_running = |s: &api::ContainerStatus| s.state.as_ref().is_some_and(|s| s.running.is_some());
    let all_zero = main.iter().all(|s| terminated(s) == Some(0));
    let init_failed = init_containers(spec).zip(init).any(|(c, s)| {
        !is_sidecar(c)
            && terminated(s).is_some_and(|code| code != 0 && (facts.stopping || !restarts(facts.pod, c, code)))
    });
    if facts.stopped {
        return if facts.ended.is_none() && !init_failed && all_zero {
            "Succeeded"
        } else {
            "Failed"
        }
        .to_owned();
    }
    // Something may still run: no end is reported before it is one.
    let initializing = init_containers(spec).zip(init).any(|(c, s)| match is_sidecar(c) {
        true => s.started != Some(true) && !main.iter().any(|m| m.container_id.is_some()),
        false => terminated(s) != Some(0) && !main.iter().any(|m| m.container_id.is_some()),
    });
    let waiting = main
        .iter()
        .any(|s| !is_running(s) && terminated(s).is_none() && !ended_before(s));
    if initializing || waiting {
        "Pending".into()
    } else {
        "Running".into()
    }
}

fn conditions(
    facts: &Facts<'_>,
    spec: &api::PodSpec,
    phase: &str,
    init: &[api::ContainerStatus],
    main: &[api::ContainerStatus],
) -> Vec<api::PodCondition> {
    let names = |list: Vec<&str>| format!("[{}]", list.join(" "));
    let ended = match phase {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ => None,
    };
    let networked = facts.sandbox.is_some_and(|s| s.ready && s.networked);
    let mut wanted = vec![("PodReadyToStartContainers", networked, None, None)];

    let incomplete: Vec<&str> = init_containers(spec)
        .zip(init)
        .filter(|(c, s)| {
            if is_sidecar(c) {
                s.started != Some(true)
            } else {
                !s.ready
            }
        })
        .map(|(c, _)| c.name.as_str())
        .collect();
    let begun = main.iter().any(|s| s.container_id.is_some());
    wanted.push(match phase {
        "Succeeded" => ("Initialized", true, Some("PodCompleted"), None),
        _ if incomplete.is_empty() || begun => ("Initialized", true, None, None),
        _ => {
            let message = format!("containers with incomplete status: {}", names(incomplete));
            ("Initialized", false, Some("ContainersNotInitialized"), Some(message))
        }
    });

    let sidecars = init_containers(spec)
        .zip(init)
        .filter(|(c, _)| is_sidecar(c))
        .map(|(_, s)| s);
    let unready: Vec<&str> = sidecars
        .chain(main)
        .filter(|s| !s.ready)
        .map(|s| s.name.as_str())
        .collect();
    let (ready, reason, message) = match ended {
        Some(reason) => (false, Some(reason), None),
        None if unready.is_empty() => (true, None, None),
        None => (
            false,
            Some("ContainersNotReady"),
            Some(format!("containers with unready status: {}", names(unready))),
        ),
    };
    let gate = spec.readiness_gates.iter().flatten().find_map(|gate| {
        let kind = &gate.condition_type;
        let found = facts.previous.conditions.iter().flatten().find(|c| c.type_ == *kind);
        match found {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{kind}\" does not exist."
            )),
            Some(c) if c.status != "True" => Some(format!(
                "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                c.status
            )),
            Some(_) => None,
        }
    });
    wanted.push(match gate {
        Some(message) if ready => ("Ready", false, Some("ReadinessGatesNotReady"), Some(message)),
        _ => ("Ready", ready, reason, message.clone()),
    });
    wanted.push(("ContainersReady", ready, reason, message));
    wanted.push(("PodScheduled", true, None, None));

    let before = facts.previous.conditions.as_deref().unwrap_or_default();
    let mut conditions: Vec<api::PodCondition> = Vec::new();
    for (kind, holds, reason, message) in wanted {
        let status = if holds { "True" } else { "False" };
        let old = before.iter().find(|c| c.type_ == kind);
        let since = old
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone());
        conditions.push(api::PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            message,
            last_transition_time: Some(since.unwrap_or(Time(facts.now))),
            observed_generation: facts.pod.metadata.generation,
            last_probe_time: None,
        });
    }
    for told in &facts.told {
        let old = before.iter().find(|c| c.type_ == told.kind && c.status == "True");
        let since = old.and_then(|c| c.last_transition_time.clone());
        conditions.push(api::PodCondition {
            type_: told.kind.to_owned(),
            status: "True".to_owned(),
            reason: told.reason.clone(),
            message: told.message.clone(),
            last_transition_time: Some(since.unwrap_or(Time(facts.now))),
            observed_generation: told.generation,
            last_probe_time: None,
        });
    }
    let others = before
        .iter()
        .filter(|c| !REMOVABLE.contains(&c.type_.as_str()))
        .filter(|c| !conditions.iter().any(|own| own.type_ == c.type_))
        .cloned();
    let others: Vec<_> = others.collect();
    conditions.extend(others);
    conditions
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
