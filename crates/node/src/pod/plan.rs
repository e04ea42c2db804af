//! What to do next for a pod: from its spec and what is observed to actions. Pure; [`worker`](super::worker) executes.
//!
//! The order is upstream's: sandbox, ephemeral containers, init containers one after the other (sidecars as soon as they
//! have started), then the containers in the order of the spec, one start at a time.

use std::collections::{BTreeMap, BTreeSet};

use coracle_clock::Timestamp;
use coracle_runtime::{ContainerId, ContainerState, ContainerStatus};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::backoff::Backoff;

/// What the agent remembers of one container of the spec, besides what the runtime knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) restarts: Backoff,
    pub(crate) pulls: Backoff,
    /// Why it is not running, as the status shows it.
    pub(crate) waiting: Option<(String, String)>,
    /// After a failed attempt to start: not before then.
    pub(crate) retry_at: Option<Timestamp>,
    /// `started` of the instance: the startup probe has succeeded, or there is none and the postStart hook has ended.
    pub(crate) started: Option<ContainerId>,
    /// The readiness probe of the instance has succeeded.
    pub(crate) ready: Option<ContainerId>,
    /// The instance must be killed.
    pub(crate) condemned: Option<Condemned>,
    /// The last start was not seen to its end. What it made may come up yet, and is taken away before the next.
    pub(crate) given_up: bool,
}

/// An instance that must be killed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condemned {
    pub(crate) id: ContainerId,
    pub(crate) by: Cause,
    /// Of the Killing event.
    pub(crate) message: String,
    /// Another takes its place, whatever its exit code and the policy say.
    pub(crate) comes_back: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    StartupProbe,
    LivenessProbe,
    Definition,
    Resize,
    /// The pod starts anew, because of another container's end.
    Renewal,
}

/// A pod's sandbox as the plan needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SandboxView {
    pub(crate) id: coracle_runtime::SandboxId,
    pub(crate) ready: bool,
    /// The network is attached (or the host's is used): containers can start.
    pub(crate) networked: bool,
    pub(crate) attempt: u32,
    /// Of the runtime's, the one that runs it.
    pub(crate) handler: String,
}

/// What is under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy {
    pub(crate) volumes: bool,
    pub(crate) sandbox: bool,
    pub(crate) starting: Option<String>,
    pub(crate) killing: BTreeSet<ContainerId>,
    /// The runtime is asked whether the sandbox lives: nothing starts until it has answered.
    pub(crate) asking: bool,
}

/// Everything that a decision is made from.
pub(crate) struct Situation<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) now: Timestamp,
    /// When the agent took the pod up.
    pub(crate) start_time: Timestamp,
    /// Volumes are ready; or, until then, when to try again.
    pub(crate) volumes: Result<(), Option<Timestamp>>,
    pub(crate) sandbox: Option<&'a SandboxView>,
    /// Every instance of the pod's containers, in any order.
    pub(crate) instances: &'a BTreeMap<ContainerId, ContainerStatus>,
    pub(crate) memory: &'a BTreeMap<String, Memory>,
    pub(crate) busy: &'a Busy,
    /// Restart counts that the API remembers of instances that the runtime has lost.
    pub(crate) lost: &'a BTreeMap<String, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    SetUpVolumes,
    /// Removes the old sandbox, if there is one.
    CreateSandbox {
        attempt: u32,
    },
    Start {
        container: String,
        attempt: u32,
    },
    Kill {
        container: String,
        condemned: Condemned,
    },
    Remove {
        id: ContainerId,
    },
}

/// Actions that can start now, and when to look again though nothing happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake: Option<Timestamp>,
    /// Everything that will ever run has run: stop what is left.
    pub(crate) finished: bool,
    /// Containers that wait out a restart back-off.
    pub(crate) backing_off: BTreeSet<String>,
}

impl Plan {
    fn wake_at(&mut self, when: Timestamp) {
        self.wake = Some(self.wake.map_or(when, |wake| wake.min(when)));
    }
}

/// The containers of a pod spec that are not its main ones, by kind.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub(crate) fn init_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten()
}

/// The newest instance of the named container.
pub(crate) fn latest<'a>(
    instances: &'a BTreeMap<ContainerId, ContainerStatus>,
    name: &str,
) -> Option<&'a ContainerStatus> {
    instances
        .values()
        .filter(|c| c.name == name)
        .max_by_key(|c| (c.attempt, c.created_at))
}

const RENEW: &str = "RestartAllContainers";

/// What the container's own rules say to an end like this.
fn action(container: &Container, exit_code: i32) -> Option<&str> {
    let rule = container.restart_policy_rules.iter().flatten().find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
            if codes.operator == "NotIn" { !listed } else { listed }
        })
    });
    rule.map(|rule| rule.action.as_str())
}

/// The last end of a container for which all are to run anew, from the first init container on. What was made before it
/// belongs to the pod's life before.
fn renewed_at(pod: &Pod, instances: &BTreeMap<ContainerId, ContainerStatus>) -> Option<Timestamp> {
    let spec = pod.spec.as_ref()?;
    let ended = instances.values().filter(|i| i.state == ContainerState::Exited);
    let renews = |instance: &&ContainerStatus| {
        let mut all = init_containers(spec).chain(&spec.containers);
        all.find(|c| c.name == instance.name)
            .is_some_and(|c| action(c, instance.exit_code.unwrap_or(-1)) == Some(RENEW))
    };
    ended.filter(renews).filter_map(|i| i.finished_at).max()
}

/// Whether the pod's containers are all being restarted: one of them is still as it was before.
pub(crate) fn is_renewing(pod: &Pod, instances: &BTreeMap<ContainerId, ContainerStatus>) -> bool {
    let Some(since) = renewed_at(pod, instances) else {
        return false;
    };
    let all = pod.spec.iter().flat_map(|s| init_containers(s).chain(&s.containers));
    all.into_iter()
        .any(|c| latest(instances, &c.name).is_some_and(|i| i.created_at < since))
}

/// Whether a container that ended like this runs again.
pub(crate) fn restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    if matches!(action(container, exit_code), Some("Restart" | RENEW)) {
        return true;
    }
    let policy = container
        .restart_policy
        .as_deref()
        .or_else(|| pod.spec.as_ref()?.restart_policy.as_deref());
    match policy {
        Some("Never") => false,
        Some("OnFailure") => exit_code != 0,
        _ => true,
    }
}

/// Whether a container whose newest instance has ended runs again.
pub(crate) fn returns(pod: &Pod, container: &Container, ended: &ContainerStatus, memory: Option<&Memory>) -> bool {
    let condemned = memory.and_then(|m| m.condemned.as_ref()).filter(|c| c.id == ended.id);
    condemned.is_some_and(|c| c.comes_back) || restarts(pod, container, ended.exit_code.unwrap_or(-1))
}

/// Whether a container that a probe has condemned runs again: unless it is never to be restarted.
pub(crate) fn survives_condemnation(pod: &Pod, container: &Container) -> bool {
    let of_pod = || pod.spec.as_ref()?.restart_policy.as_deref();
    container.restart_policy.as_deref().or_else(of_pod) != Some("Never")
}

/// A hash of what makes a running container another one when it changes: its name and image.
pub(crate) fn container_hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let hash = container
        .name
        .bytes()
        .chain([0])
        .chain(image.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{hash:016x}")
}

/// The annotation that keeps [`container_hash`] with an instance.
pub(crate) const HASH_ANNOTATION: &str = "io.kubernetes.container.hash";

struct Planner<'a> {
    s: &'a Situation<'a>,
    plan: Plan,
    may_start: bool,
    renewed_at: Option<Timestamp>,
}

/// Decides. Not for pods that are being terminated: those only end.
pub(crate) fn plan(situation: &Situation<'_>) -> Plan {
    let mut planner = Planner {
        s: situation,
        plan: Plan::default(),
        may_start: situation.busy.starting.is_none() && !situation.busy.asking,
        renewed_at: renewed_at(situation.pod, situation.instances),
    };
    if let Some(spec) = &situation.pod.spec {
        planner.pod(spec);
    }
    let old = garbage(situation.instances).into_iter().map(|id| Action::Remove { id });
    planner.plan.actions.extend(old);
    planner.plan
}

impl Planner<'_> {
    fn pod(&mut self, spec: &PodSpec) {
        if self.failed_init(spec) || self.all_done(spec) {
            self.plan.finished = true;
            return;
        }
        if let Some(deadline) = self.deadline(spec) {
            if self.s.now >= deadline {
                self.plan.finished = true;
                return;
            }
            self.plan.wake_at(deadline);
        }
        match self.s.volumes {
            Ok(()) => {}
            Err(_) if self.s.busy.volumes => return,
            Err(Some(retry)) if retry > self.s.now => return self.plan.wake_at(retry),
            Err(_) => return self.plan.actions.push(Action::SetUpVolumes),
        }
        let attempt = match self.s.sandbox {
            Some(sandbox) if sandbox.ready && sandbox.networked => None,
            Some(sandbox) => Some(sandbox.attempt + 1),
            None => Some(0),
        };
        if let Some(attempt) = attempt {
            let retry = self
                .s
                .memory
                .get("")
                .and_then(|m| m.retry_at)
                .filter(|at| *at > self.s.now);
            match retry {
                _ if self.s.busy.sandbox => {}
                Some(at) => self.plan.wake_at(at),
                None => self.plan.actions.push(Action::CreateSandbox { attempt }),
            }
            return;
        }
        if self.end_life_before() {
            return;
        }
        for ephemeral in spec.ephemeral_containers.iter().flatten() {
            if self.latest(&ephemeral.name).is_none_or(|i| self.is_half_started(i)) {
                self.run_or_wait(&ephemeral.name);
            }
        }
        if !self.init(spec) {
            return;
        }
        for container in &spec.containers {
            self.keep(container);
        }
    }

    fn latest(&self, name: &str) -> Option<&ContainerStatus> {
        latest(self.s.instances, name)
    }

    /// An instance whose start was not seen to its end: by an agent that was ended, or because the runtime did not answer.
    fn is_half_started(&self, instance: &ContainerStatus) -> bool {
        let given_up = self.s.memory.get(&instance.name).is_some_and(|m| m.given_up);
        instance.state == ContainerState::Created || instance.state == ContainerState::Running && given_up
    }

    fn is_of_before(&self, instance: &ContainerStatus) -> bool {
        self.renewed_at.is_some_and(|at| instance.created_at < at)
    }

    /// Ends what still runs of before all were to run anew; whether there is such.
    fn end_life_before(&mut self) -> bool {
        let running = self.s.instances.values().filter(|i| i.state == ContainerState::Running);
        let before: Vec<_> = running.filter(|i| self.is_of_before(i)).collect();
        for instance in &before {
            if self.s.busy.killing.contains(&instance.id) {
                continue;
            }
            self.plan.actions.push(Action::Kill {
                container: instance.name.clone(),
                condemned: Condemned {
                    id: instance.id.clone(),
                    by: Cause::Renewal,
                    message: format!("Container {} will be restarted with all of its pod", instance.name),
                    comes_back: true,
                },
            });
        }
        !before.is_empty()
    }

    fn deadline(&self, spec: &PodSpec) -> Option<Timestamp> {
        self.s
            .start_time
            .checked_add(jiff::SignedDuration::from_secs(spec.active_deadline_seconds?))
            .ok()
    }

    /// An init container has failed for good.
    fn failed_init(&self, spec: &PodSpec) -> bool {
        init_containers(spec).filter(|c| !is_sidecar(c)).any(|c| {
            let ended = self.ended(&c.name);
            ended.is_some_and(|i| i.exit_code != Some(0) && !self.returns(c, i))
        })
    }

    fn returns(&self, container: &Container, ended: &ContainerStatus) -> bool {
        returns(self.s.pod, container, ended, self.s.memory.get(&container.name))
    }

    /// Every main container has ended and stays so.
    fn all_done(&self, spec: &PodSpec) -> bool {
        spec.containers.iter().all(|c| {
            let ended = self.ended(&c.name);
            ended.is_some_and(|i| !self.returns(c, i))
        })
    }

    /// The container's newest instance where that has ended, in this life of the pod.
    fn ended(&self, name: &str) -> Option<&ContainerStatus> {
        let ended = self.latest(name).filter(|i| i.state == ContainerState::Exited);
        ended.filter(|i| !self.is_of_before(i))
    }

    /// It has run in this sandbox, since all were to run anew.
    fn is_current(&self, instance: &ContainerStatus) -> bool {
        self.s.sandbox.is_some_and(|s| s.id == instance.sandbox) && !self.is_of_before(instance)
    }

    /// Initialisation; whether it is over.
    fn init(&mut self, spec: &PodSpec) -> bool {
        let begun = spec
            .containers
            .iter()
            .any(|c| self.latest(&c.name).is_some_and(|i| self.is_current(i)));
        for container in init_containers(spec) {
            let here = self.latest(&container.name).filter(|i| self.is_current(i)).cloned();
            if is_sidecar(container) {
                self.keep(container);
                let started = self.s.memory.get(&container.name).and_then(|m| m.started.as_ref());
                let up = here.is_some_and(|i| i.state == ContainerState::Running && started == Some(&i.id));
                if !up && !begun {
                    return false;
                }
                continue;
            }
            if begun {
                continue;
            }
            match here {
                Some(i) if i.state == ContainerState::Exited && i.exit_code == Some(0) => {}
                Some(i) if i.state == ContainerState::Running && !self.is_half_started(&i) => return false,
                _ => {
                    self.run_or_wait(&container.name);
                    return false;
                }
            }
        }
        true
    }

    /// Keeps a container or sidecar running as its policy says.
    fn keep(&mut self, container: &Container) {
        let Some(instance) = self.latest(&container.name).cloned() else {
            return self.run_or_wait(&container.name);
        };
        match instance.state {
            _ if self.is_half_started(&instance) => self.run_or_wait(&container.name),
            ContainerState::Running => self.condemn(container, &instance),
            ContainerState::Exited if self.is_of_before(&instance) || self.returns(container, &instance) => {
                self.run_or_wait(&container.name);
            }
            ContainerState::Exited | ContainerState::Created => {}
        }
    }

    fn condemn(&mut self, container: &Container, instance: &ContainerStatus) {
        if self.s.busy.killing.contains(&instance.id) || self.s.busy.starting.as_deref() == Some(&container.name) {
            return;
        }
        let condemned = self.s.memory.get(&container.name).and_then(|m| m.condemned.as_ref());
        let hash = instance.annotations.get(HASH_ANNOTATION);
        let condemned = match condemned {
            Some(condemned) if condemned.id == instance.id => condemned.clone(),
            _ if hash.is_some_and(|h| *h != container_hash(container)) => Condemned {
                id: instance.id.clone(),
                by: Cause::Definition,
                message: format!("Container {} definition changed, will be restarted", container.name),
                comes_back: true,
            },
            _ => return,
        };
        self.plan.actions.push(Action::Kill {
            container: container.name.clone(),
            condemned,
        });
    }

    /// Starts the container unless a back-off forbids it; then wakes at its end.
    fn run_or_wait(&mut self, name: &str) {
        let memory = self.s.memory.get(name);
        if let Some(at) = memory.and_then(|m| m.retry_at).filter(|at| *at > self.s.now) {
            return self.plan.wake_at(at);
        }
        let instance = self.latest(name);
        let attempt = match instance {
            Some(i) if self.is_half_started(i) => i.attempt,
            Some(i) => i.attempt + 1,
            None => self.s.lost.get(name).map_or(0, |count| count + 1),
        };
        let ended = instance.filter(|i| i.state == ContainerState::Exited);
        let since = ended.map(|i| i.finished_at.unwrap_or(i.created_at));
        let ready_at = since.and_then(|since| memory?.restarts.ready_at(since));
        if let Some(at) = ready_at.filter(|at| *at > self.s.now) {
            self.plan.backing_off.insert(name.to_owned());
            return self.plan.wake_at(at);
        }
        self.start(name, attempt);
    }

    fn start(&mut self, name: &str, attempt: u32) {
        if std::mem::take(&mut self.may_start) {
            self.plan.actions.push(Action::Start {
                container: name.to_owned(),
                attempt,
            });
        }
    }
}

/// Instances that nobody will ask about again: all but the last two of each container.
fn garbage(instances: &BTreeMap<ContainerId, ContainerStatus>) -> Vec<ContainerId> {
    let mut by_name: BTreeMap<&str, Vec<&ContainerStatus>> = BTreeMap::new();
    for instance in instances.values() {
        by_name.entry(&instance.name).or_default().push(instance);
    }
    let mut ids = Vec::new();
    for list in by_name.values_mut() {
        list.sort_by_key(|c| std::cmp::Reverse((c.attempt, c.created_at)));
        let old = list.iter().skip(2).filter(|c| c.state != ContainerState::Running);
        ids.extend(old.map(|c| c.id.clone()));
    }
    ids
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
