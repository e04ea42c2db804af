//! Tables: what is observed of a pod, and how its status shows it.

use super::*;
use crate::pod::scripted;
use serde_json::json;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn instance(name: &str, state: State, exit_code: Option<i32>) -> Instance {
    Instance {
        exit_code,
        started_at: Some(at("2026-01-01T00:00:01Z")),
        finished_at: exit_code.map(|_| at("2026-01-01T00:00:02Z")),
        user: 1000,
        ..scripted::instance(name, 0, state)
    }
}

struct World {
    pod: api::Pod,
    previous: api::PodStatus,
    instances: BTreeMap<ContainerId, Instance>,
    memory: BTreeMap<String, Memory>,
    stopping: bool,
    stopped: bool,
}

impl World {
    fn new(spec: serde_json::Value, instances: impl IntoIterator<Item = Instance>) -> Self {
        let pod = json!({"metadata": {"name": "p", "uid": "u", "generation": 3}, "spec": spec});
        Self {
            pod: serde_json::from_value(pod).unwrap(),
            previous: api::PodStatus::default(),
            instances: instances.into_iter().map(|i| (i.id.clone(), i)).collect(),
            memory: BTreeMap::new(),
            stopping: false,
            stopped: false,
        }
    }

    fn started(mut self, name: &str) -> Self {
        self.memory.entry(name.into()).or_default().started = Some(ContainerId::new(format!("{name}-0")));
        self
    }

    fn status(&self) -> api::PodStatus {
        status(&Facts {
            pod: &self.pod,
            previous: &self.previous,
            now: at("2026-01-01T00:01:00Z"),
            start_time: at("2026-01-01T00:00:00Z"),
            sandbox: None,
            instances: &self.instances,
            memory: &self.memory,
            messages: &BTreeMap::new(),
            images: &BTreeMap::new(),
            pod_ips: &["10.0.0.1".into()],
            host_ips: &["192.0.2.1".into()],
            stopping: self.stopping,
            stopped: self.stopped,
            ended: None,
            starting: None,
            told: Vec::new(),
            runtime: "coracle",
        })
    }

    fn phase(&self) -> String {
        self.status().phase.unwrap()
    }
}

fn one(policy: &str) -> serde_json::Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a"}]})
}

fn condition(status: &api::PodStatus, kind: &str) -> (String, Option<String>, Option<String>) {
    let c = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind)
        .unwrap()
        .clone();
    (c.status, c.reason, c.message)
}

#[test]
fn phases_follow_from_the_containers() {
    let run = || instance("a", State::Running, None);
    let end = |code| instance("a", State::Exited, Some(code));
    assert_eq!(World::new(one("Always"), []).phase(), "Pending");
    assert_eq!(World::new(one("Always"), [run()]).phase(), "Running");
    assert_eq!(World::new(one("Always"), [end(1)]).phase(), "Running");
    assert_eq!(
        World::new(one("Never"), [end(0)]).phase(),
        "Running",
        "not before all is stopped"
    );
    for (code, phase) in [(0, "Succeeded"), (1, "Failed")] {
        let mut world = World::new(one("Never"), [end(code)]);
        (world.stopping, world.stopped) = (true, true);
        assert_eq!(world.phase(), phase);
    }
    let mut over = World::new(one("Always"), [run()]);
    over.previous.phase = Some("Failed".into());
    assert_eq!(over.phase(), "Failed", "an end is final");
    let init = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    assert_eq!(
        World::new(init.clone(), [instance("i", State::Running, None)]).phase(),
        "Pending"
    );
    assert_eq!(
        World::new(init, [instance("i", State::Exited, Some(0))]).phase(),
        "Pending"
    );
}

#[test]
fn conditions_say_what_is_not_ready() {
    let status = World::new(one("Always"), [instance("a", State::Running, None)]).status();
    let message = Some("containers with unready status: [a]".to_owned());
    assert_eq!(
        condition(&status, "Ready"),
        ("False".into(), Some("ContainersNotReady".into()), message)
    );
    let status = World::new(one("Always"), [instance("a", State::Running, None)])
        .started("a")
        .status();
    assert_eq!(condition(&status, "Ready"), ("True".into(), None, None));
    assert_eq!(status.conditions.as_ref().unwrap()[0].observed_generation, Some(3));
    let kinds: Vec<_> = status.conditions.iter().flatten().map(|c| c.type_.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled"
        ]
    );
}

#[test]
fn readiness_gates_hold_the_pod_and_foreign_conditions_stay() {
    let mut spec = one("Always");
    spec["readinessGates"] = json!([{"conditionType": "x/y"}]);
    let mut world = World::new(spec, [instance("a", State::Running, None)]).started("a");
    let text = "corresponding condition of pod readiness gate \"x/y\" does not exist.".to_owned();
    assert_eq!(
        condition(&world.status(), "Ready"),
        ("False".into(), Some("ReadinessGatesNotReady".into()), Some(text))
    );
    assert_eq!(condition(&world.status(), "ContainersReady").0, "True");
    world.previous = serde_json::from_value(json!({"conditions": [{"type": "x/y", "status": "True"}]})).unwrap();
    let status = world.status();
    assert_eq!(condition(&status, "Ready").0, "True");
    assert_eq!(condition(&status, "x/y").0, "True");
}

#[test]
fn transition_times_move_only_with_the_status() {
    let mut world = World::new(one("Always"), [instance("a", State::Running, None)]).started("a");
    world.previous = serde_json::from_value(json!({"conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"},
        {"type": "ContainersReady", "status": "False", "lastTransitionTime": "2025-01-01T00:00:00Z"}]}))
    .unwrap();
    let status = world.status();
    let since = |kind: &str| {
        let found = status.conditions.iter().flatten().find(|c| c.type_ == kind);
        found.unwrap().last_transition_time.as_ref().unwrap().0
    };
    assert_eq!(since("Ready"), at("2025-01-01T00:00:00Z"));
    assert_eq!(since("ContainersReady"), at("2026-01-01T00:01:00Z"));
}

#[test]
fn ends_are_named_as_upstream_names_them() {
    let mut oom = instance("a", State::Exited, Some(137));
    oom.oom_killed = true;
    for (instance, reason) in [
        (oom, "OOMKilled"),
        (instance("a", State::Exited, Some(0)), "Completed"),
        (instance("a", State::Exited, Some(2)), "Error"),
    ] {
        let status = World::new(one("Never"), [instance]).status();
        let ended = status.container_statuses.unwrap()[0]
            .state
            .clone()
            .unwrap()
            .terminated
            .unwrap();
        assert_eq!(ended.reason.as_deref(), Some(reason));
    }
}

#[test]
fn a_running_container_that_the_runtime_lost_ended_in_the_dark() {
    let mut world = World::new(one("Always"), []);
    world.previous = serde_json::from_value(
        json!({"containerStatuses": [{"name": "a", "image": "i", "imageID": "d", "ready": true,
        "restartCount": 2, "containerID": "coracle://old", "state": {"running": {}}}]}),
    )
    .unwrap();
    let a = world.status().container_statuses.unwrap().remove(0);
    let last = a.last_state.unwrap().terminated.unwrap();
    assert_eq!(
        (last.reason.as_deref(), last.exit_code),
        (Some("ContainerStatusUnknown"), 137)
    );
    assert_eq!(a.restart_count, 2);
}

/// concepts/storage/volumes: recursive read-only mounts.
#[test]
fn if_possible_is_shown_as_disabled_or_enabled_by_the_mount_s_result() {
    let spec = json!({"containers": [{"name": "a", "volumeMounts": [
        {"name": "v", "mountPath": "/possible", "readOnly": true, "recursiveReadOnly": "IfPossible"},
        {"name": "v", "mountPath": "/plain", "readOnly": true},
        {"name": "v", "mountPath": "/written"}]}]});
    let shown = |recursive_readonly| {
        let mut a = instance("a", State::Running, None);
        a.mounts = vec![coracle_runtime::Mount {
            container_path: "/possible".into(),
            readonly: true,
            recursive_readonly,
            ..coracle_runtime::Mount::default()
        }];
        let status = World::new(spec.clone(), [a]).status();
        let mounts = status.container_statuses.unwrap()[0].volume_mounts.clone().unwrap();
        mounts.into_iter().map(|m| m.recursive_read_only).collect::<Vec<_>>()
    };
    let (enabled, disabled) = (Some("Enabled".to_owned()), Some("Disabled".to_owned()));
    assert_eq!(shown(true), [enabled, disabled.clone(), None]);
    assert_eq!(shown(false), [disabled.clone(), disabled, None]);
}

/// The API: VolumeMountStatus.
#[test]
fn a_mounted_image_volume_shows_the_digest_of_its_image() {
    let spec = json!({"containers": [{"name": "a", "volumeMounts": [
        {"name": "i", "mountPath": "/image"}, {"name": "v", "mountPath": "/data"}]}]});
    let mut a = instance("a", State::Running, None);
    let images = json!({"i": "registry.example/x@sha256:0"}).to_string();
    a.annotations.insert(VOLUME_IMAGES_ANNOTATION.into(), images);
    let status = World::new(spec, [a]).status();
    let mounts = status.container_statuses.unwrap()[0].volume_mounts.clone().unwrap();
    let image = |m: &api::VolumeMountStatus| Some(m.volume_status.as_ref()?.image.as_ref()?.image_ref.clone());
    assert_eq!(image(&mounts[0]).as_deref(), Some("registry.example/x@sha256:0"));
    assert_eq!(image(&mounts[1]), None);
}
