//! Tables: what is observed of a pod, and what is done next.

use super::*;
use crate::pod::scripted::instance;
use serde_json::{Value, json};

const NOW: &str = "2026-01-01T01:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn running(name: &str) -> ContainerStatus {
    instance(name, 0, ContainerState::Running)
}

fn exited(name: &str, attempt: u32, code: i32, finished: &str) -> ContainerStatus {
    ContainerStatus {
        exit_code: Some(code),
        finished_at: Some(at(finished)),
        ..instance(name, attempt, ContainerState::Exited)
    }
}

struct World {
    pod: Pod,
    sandbox: Option<SandboxView>,
    instances: BTreeMap<ContainerId, ContainerStatus>,
    memory: BTreeMap<String, Memory>,
    busy: Busy,
    volumes: Result<(), Option<Timestamp>>,
    start_time: Timestamp,
}

impl World {
    fn new(spec: Value) -> Self {
        Self {
            pod: serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap(),
            sandbox: Some(SandboxView {
                id: "sb".into(),
                ready: true,
                networked: true,
                attempt: 0,
                handler: String::new(),
            }),
            instances: BTreeMap::new(),
            memory: BTreeMap::new(),
            busy: Busy::default(),
            volumes: Ok(()),
            start_time: at("2026-01-01T00:00:00Z"),
        }
    }

    fn with(mut self, instances: impl IntoIterator<Item = ContainerStatus>) -> Self {
        self.instances.extend(instances.into_iter().map(|i| (i.id.clone(), i)));
        self
    }

    fn plan(&self) -> Plan {
        plan(&Situation {
            pod: &self.pod,
            now: at(NOW),
            start_time: self.start_time,
            volumes: self.volumes,
            sandbox: self.sandbox.as_ref(),
            instances: &self.instances,
            memory: &self.memory,
            busy: &self.busy,
            lost: &BTreeMap::new(),
        })
    }
}

fn start(name: &str, attempt: u32) -> Vec<Action> {
    vec![Action::Start {
        container: name.into(),
        attempt,
    }]
}

fn two() -> Value {
    json!({"containers": [{"name": "a"}, {"name": "b"}]})
}

#[test]
fn what_was_not_seen_to_start_is_started_again_and_counts_as_no_restart() {
    let created = |name: &str| instance(name, 3, ContainerState::Created);
    let one = || json!({"containers": [{"name": "a"}]});
    assert_eq!(World::new(one()).with([created("a")]).plan().actions, start("a", 3));
    // Given up, and come up since.
    let mut world = World::new(one()).with([running("a")]);
    assert_eq!(world.plan(), Plan::default());
    world.memory.entry("a".into()).or_default().given_up = true;
    assert_eq!(world.plan().actions, start("a", 0));
    world.memory.get_mut("a").unwrap().retry_at = Some(at("2026-01-01T01:00:05Z"));
    assert_eq!(world.plan().wake, Some(at("2026-01-01T01:00:05Z")));
    let init = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let mut world = World::new(init).with([running("i")]);
    assert_eq!(world.plan().actions, []);
    world.memory.entry("i".into()).or_default().given_up = true;
    assert_eq!(world.plan().actions, start("i", 0));
    let debugged = json!({"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e"}]});
    let world = World::new(debugged).with([running("a"), created("e")]);
    assert_eq!(world.plan().actions, start("e", 3));
}

#[test]
fn volumes_come_first_then_the_sandbox_then_the_containers_in_order() {
    let mut world = World::new(two());
    world.sandbox = None;
    world.volumes = Err(None);
    assert_eq!(world.plan().actions, [Action::SetUpVolumes]);
    world.busy.volumes = true;
    assert_eq!(world.plan(), Plan::default());
    world.busy.volumes = false;
    world.volumes = Err(Some(at("2026-01-01T01:00:05Z")));
    assert_eq!(world.plan().wake, Some(at("2026-01-01T01:00:05Z")));
    world.volumes = Ok(());
    assert_eq!(world.plan().actions, [Action::CreateSandbox { attempt: 0 }]);
    let world = World::new(two());
    assert_eq!(world.plan().actions, start("a", 0));
    let world = world.with([running("a")]);
    assert_eq!(world.plan().actions, start("b", 0));
    let mut world = world;
    world.busy.starting = Some("b".into());
    assert_eq!(world.plan().actions, []);
    assert_eq!(world.with([running("b")]).plan(), Plan::default());
}

#[test]
fn a_dead_sandbox_is_replaced_and_its_containers_run_again() {
    let mut world = World::new(two()).with([exited("a", 0, 137, NOW), exited("b", 2, 137, NOW)]);
    world.sandbox = Some(SandboxView {
        id: "sb".into(),
        ready: false,
        networked: true,
        attempt: 3,
        handler: String::new(),
    });
    assert_eq!(world.plan().actions, [Action::CreateSandbox { attempt: 4 }]);
    world.sandbox = Some(SandboxView {
        id: "sb2".into(),
        ready: true,
        networked: true,
        attempt: 4,
        handler: String::new(),
    });
    assert_eq!(world.plan().actions, start("a", 1));
    let mut never =
        World::new(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]})).with([exited("a", 0, 137, NOW)]);
    never.sandbox = Some(SandboxView {
        id: "sb".into(),
        ready: false,
        networked: true,
        attempt: 0,
        handler: String::new(),
    });
    assert!(never.plan().finished);
}

#[test]
fn restart_policies_decide_what_runs_again() {
    for (policy, code, again) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 3, true),
        ("Never", 1, false),
    ] {
        let world = World::new(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}))
            .with([exited("a", 0, code, NOW)]);
        let plan = world.plan();
        assert_eq!(plan.finished, !again, "{policy} {code}");
        assert_eq!(
            plan.actions,
            if again { start("a", 1) } else { vec![] },
            "{policy} {code}"
        );
    }
}

#[test]
fn a_containers_own_rules_come_before_the_pods_policy() {
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let spec = json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}]});
    assert_eq!(
        World::new(spec.clone()).with([exited("a", 0, 42, NOW)]).plan().actions,
        start("a", 1)
    );
    assert!(World::new(spec).with([exited("a", 0, 1, NOW)]).plan().finished);
}

#[test]
fn a_crash_loop_waits_out_its_back_off_and_says_when_it_ends() {
    let mut world = World::new(json!({"containers": [{"name": "a"}]})).with([exited("a", 1, 1, NOW)]);
    let mut memory = Memory::default();
    memory.restarts.next(at(NOW), at(NOW), crate::pod::backoff::LONGEST);
    world.memory.insert("a".into(), memory);
    let plan = world.plan();
    assert_eq!(plan.actions, []);
    assert_eq!(plan.wake, Some(at("2026-01-01T01:00:10Z")));
    assert!(plan.backing_off.contains("a"));
}

#[test]
fn init_containers_run_one_after_the_other_before_the_containers() {
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    assert_eq!(World::new(spec.clone()).plan().actions, start("i", 0));
    assert_eq!(World::new(spec.clone()).with([running("i")]).plan(), Plan::default());
    assert_eq!(
        World::new(spec.clone()).with([exited("i", 0, 0, NOW)]).plan().actions,
        start("j", 0)
    );
    assert_eq!(
        World::new(spec.clone()).with([exited("i", 0, 1, NOW)]).plan().actions,
        start("i", 1)
    );
    let done = [exited("i", 0, 0, NOW), exited("j", 0, 0, NOW)];
    assert_eq!(
        World::new(spec.clone()).with(done.clone()).plan().actions,
        start("a", 0)
    );
    assert_eq!(
        World::new(spec.clone()).with(done).with([running("a")]).plan(),
        Plan::default()
    );
    // Their instances may be collected once the containers run.
    assert_eq!(World::new(spec.clone()).with([running("a")]).plan(), Plan::default());
    let mut never = World::new(spec).with([exited("i", 0, 1, NOW)]);
    never.pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    assert!(never.plan().finished);
}

#[test]
fn a_sidecar_must_have_started_before_the_next_and_is_kept_running() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}],
        "containers": [{"name": "a"}]});
    let mut world = World::new(spec).with([running("s")]);
    assert_eq!(world.plan(), Plan::default(), "running, not yet started");
    world.memory.entry("s".into()).or_default().started = Some("s-0".into());
    assert_eq!(world.plan().actions, start("i", 0));
    let mut world = world.with([exited("i", 0, 0, NOW), running("a"), exited("s", 0, 0, NOW)]);
    assert_eq!(world.plan().actions, start("s", 1), "restarted beside the containers");
    world.instances.insert("a-0".into(), exited("a", 0, 0, NOW));
    assert!(world.plan().finished, "sidecars do not keep a pod alive");
}

#[test]
fn a_condemned_or_changed_container_is_killed_once() {
    let mut world = World::new(json!({"containers": [{"name": "a", "image": "new"}]})).with([running("a")]);
    assert_eq!(world.plan(), Plan::default());
    world.memory.entry("a".into()).or_default().condemned = Some(Condemned {
        id: "a-0".into(),
        by: Cause::LivenessProbe,
        message: "why".into(),
        comes_back: false,
    });
    let kill = |by, message: &str, comes_back| {
        vec![Action::Kill {
            container: "a".into(),
            condemned: Condemned {
                id: "a-0".into(),
                by,
                message: message.into(),
                comes_back,
            },
        }]
    };
    assert_eq!(world.plan().actions, kill(Cause::LivenessProbe, "why", false));
    world.busy.killing.insert("a-0".into());
    assert_eq!(world.plan().actions, []);
    world.busy.killing.clear();
    world.memory.clear();
    let a = world.instances.get_mut(&ContainerId::new("a-0")).unwrap();
    a.annotations.insert(HASH_ANNOTATION.into(), "another".into());
    assert_eq!(
        world.plan().actions,
        kill(
            Cause::Definition,
            "Container a definition changed, will be restarted",
            true
        )
    );
}

#[test]
fn a_container_that_a_probe_killed_comes_back_though_it_ended_well() {
    let spec = json!({"restartPolicy": "OnFailure", "containers": [{"name": "a"}]});
    let mut world = World::new(spec).with([exited("a", 0, 0, NOW)]);
    assert!(world.plan().finished);
    world.memory.entry("a".into()).or_default().condemned = Some(Condemned {
        id: "a-0".into(),
        by: Cause::LivenessProbe,
        message: String::new(),
        comes_back: true,
    });
    assert_eq!(world.plan().actions, start("a", 1));
}

#[test]
fn a_debug_container_is_started_once_and_waits_out_a_failed_pull() {
    let spec = json!({"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e", "image": "none"}]});
    let mut world = World::new(spec).with([running("a")]);
    assert_eq!(world.plan().actions, start("e", 0));
    world.memory.entry("e".into()).or_default().retry_at = Some(at("2026-01-01T01:00:10Z"));
    let plan = world.plan();
    assert_eq!((plan.actions.len(), plan.wake), (0, Some(at("2026-01-01T01:00:10Z"))));
    let world = world.with([exited("e", 0, 1, NOW)]);
    assert_eq!(world.plan().actions, [], "it does not come back");
}

#[test]
fn a_rule_of_a_container_decides_by_its_exit_code_before_its_own_policy_and_the_pod_s() {
    for (container, code, again) in [
        (json!({"restartPolicy": "Always"}), 0, true),
        (json!({"restartPolicy": "OnFailure"}), 0, false),
        (json!({"restartPolicy": "OnFailure"}), 1, true),
        (json!({}), 1, false),
        (rule("Never", "In", &[42]), 42, true),
        (rule("Never", "In", &[42]), 41, false),
        (rule("Never", "NotIn", &[42]), 42, false),
        (rule("Never", "NotIn", &[42]), 41, true),
        (rule("OnFailure", "In", &[0]), 0, true),
    ] {
        let container: Container = serde_json::from_value(container).unwrap();
        let pod = World::new(json!({"restartPolicy": "Never", "containers": []})).pod;
        assert_eq!(restarts(&pod, &container, code), again, "{container:?} {code}");
    }
}

fn rule(policy: &str, operator: &str, values: &[i32]) -> Value {
    json!({"restartPolicy": policy, "restartPolicyRules": [
        {"action": "Restart", "exitCodes": {"operator": operator, "values": values}}]})
}

#[test]
fn the_active_deadline_ends_a_pod() {
    let mut world =
        World::new(json!({"activeDeadlineSeconds": 60, "containers": [{"name": "a"}]})).with([running("a")]);
    world.start_time = at("2026-01-01T00:59:30Z");
    assert_eq!(world.plan().wake, Some(at("2026-01-01T01:00:30Z")));
    world.start_time = at("2026-01-01T00:58:00Z");
    assert!(world.plan().finished);
}

#[test]
fn the_last_two_instances_are_kept() {
    let world = World::new(two())
        .with((0..4).map(|n| exited("a", n, 1, NOW)))
        .with([running("b")]);
    assert_eq!(
        garbage(&world.instances),
        [ContainerId::new("a-1"), ContainerId::new("a-0")].map(|i| i)
    );
}
