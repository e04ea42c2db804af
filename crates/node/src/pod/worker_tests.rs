//! The life of a pod in virtual time, on a scripted runtime.

use super::*;
use crate::pod::scripted::{Scripted, Written, context};
use coracle_clock::Clock;
use serde_json::{Value, json};
use std::time::Duration;

#[path = "worker_tests/given_up.rs"]
mod given_up;
#[path = "worker_tests/lifecycle.rs"]
mod lifecycle;
#[path = "worker_tests/node.rs"]
mod node;
#[path = "worker_tests/probes.rs"]
mod probes;

struct Bench {
    cx: Arc<Context>,
    runtime: Arc<Scripted>,
    api: Arc<Written>,
    inbox: Arc<Inbox>,
    pod: Pod,
    _dir: tempfile::TempDir,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Bench {
    fn new(spec: Value) -> Self {
        let clock = Clock::starting_at(at("2026-01-01T00:00:00Z"));
        let runtime = Scripted::new(clock);
        let api: Arc<Written> = Arc::default();
        let dir = tempfile::tempdir().unwrap();
        let cx = context(&runtime, &api, clock, dir.path());
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "uid", "generation": 1}, "spec": spec}));
        Self {
            cx,
            runtime,
            api,
            inbox: Arc::default(),
            pod: pod.unwrap(),
            _dir: dir,
        }
    }

    /// Starts the worker, with the runtime's events for it.
    fn start(&self) -> tokio::task::JoinHandle<()> {
        let (sandboxes, containers) = self.runtime.all();
        let mut events = self.cx.runtime.events();
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            while let Ok(event) = events.recv().await {
                inbox.happened(&event);
            }
        });
        let leftovers = Leftovers { sandboxes, containers };
        let worker = Worker::new(
            self.cx.clone(),
            self.inbox.clone(),
            Arc::new(self.pod.clone()),
            leftovers,
        );
        tokio::spawn(worker.run())
    }

    /// Waits for a status that is as wanted.
    async fn until(&self, wanted: impl Fn(&PodStatus) -> bool) -> PodStatus {
        let mut statuses = self.api.statuses.subscribe();
        let limit = Duration::from_secs(3600);
        let found = tokio::time::timeout(limit, statuses.wait_for(|all| all.last().is_some_and(&wanted)));
        match found.await {
            Ok(all) => all.unwrap().last().unwrap().clone(),
            Err(_) => panic!(
                "never so; last: {:#?}, events {:#?}",
                self.last(),
                self.api.events.lock()
            ),
        }
    }

    fn last(&self) -> Option<PodStatus> {
        self.api.statuses.borrow().last().cloned()
    }

    fn delete(&mut self, grace: i64) {
        let when = self.cx.clock.now() + jiff::SignedDuration::from_secs(grace);
        self.pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(when));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.inbox.pod(Arc::new(self.pod.clone()));
    }

    async fn removed(&self) {
        let mut removed = self.api.removed.subscribe();
        tokio::time::timeout(Duration::from_secs(3600), removed.wait_for(|r| *r))
            .await
            .unwrap()
            .unwrap();
    }

    fn events(&self) -> Vec<String> {
        self.api.events.lock().clone()
    }
}

fn containers(names: &[&str]) -> Value {
    json!(
        names
            .iter()
            .map(|n| json!({"name": n, "image": "image:1"}))
            .collect::<Vec<_>>()
    )
}

fn is_ready(status: &PodStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

fn waiting(status: &PodStatus) -> Option<&str> {
    status.container_statuses.as_ref()?[0]
        .state
        .as_ref()?
        .waiting
        .as_ref()?
        .reason
        .as_deref()
}

fn starts(log: &[String]) -> Vec<u64> {
    log.iter()
        .filter(|l| l.contains(" start "))
        .map(|l| l.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_pod_starts_in_order_and_becomes_ready() {
    let bench = Bench::new(json!({"containers": containers(&["a", "b"])}));
    bench.start();
    let status = bench.until(is_ready).await;
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.9"));
    assert_eq!(bench.runtime.take_log(), ["0 run_sandbox", "0 start a", "0 start b"]);
    assert_eq!(
        bench.events()[..3],
        [
            "Normal Pulled Container image \"image:1\" already present on machine and can be accessed by the pod",
            "Normal Created Container created",
            "Normal Started Container started"
        ]
    );
    let a = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!((a.ready, a.started, a.restart_count), (true, Some(true), 0));
    assert_eq!(a.container_id.as_deref(), Some("coracle://a-1"));
    assert_eq!(status.observed_generation, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_backs_off_from_ten_seconds_to_five_minutes() {
    let bench = Bench::new(json!({"containers": containers(&["a"])}));
    bench.runtime.runs("a", [(Duration::ZERO, 1); 9]);
    bench.start();
    let status = bench.until(|s| waiting(s) == Some("CrashLoopBackOff")).await;
    let a = &status.container_statuses.as_ref().unwrap()[0];
    let message = a
        .state
        .as_ref()
        .unwrap()
        .waiting
        .as_ref()
        .unwrap()
        .message
        .clone()
        .unwrap();
    assert_eq!(message, "back-off 10s restarting failed container=a pod=p_ns(uid)");
    assert_eq!(a.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let status = bench
        .until(|s| is_ready(s) && s.container_statuses.as_ref().unwrap()[0].restart_count == 9)
        .await;
    assert!(
        status.container_statuses.unwrap()[0]
            .last_state
            .as_ref()
            .unwrap()
            .terminated
            .is_some()
    );
    assert_eq!(
        starts(&bench.runtime.take_log()),
        [0, 0, 10, 30, 70, 150, 310, 610, 910, 1210]
    );
    assert!(
        bench
            .events()
            .contains(&"Warning BackOff Back-off restarting failed container a in pod p_ns(uid)".into())
    );
    assert_eq!(bench.runtime.all().1.len(), 2, "old instances are collected");
}

#[tokio::test(start_paused = true)]
async fn a_job_pod_succeeds_and_its_sidecar_ends_with_it() {
    let spec = json!({"restartPolicy": "OnFailure", "containers": containers(&["a"]),
        "initContainers": [{"name": "s", "image": "image:1", "restartPolicy": "Always"}, {"name": "i", "image": "image:1"}]});
    let bench = Bench::new(spec);
    bench.runtime.runs("i", [(Duration::from_secs(1), 0)]);
    bench
        .runtime
        .runs("a", [(Duration::from_secs(1), 3), (Duration::from_secs(5), 0)]);
    bench.start();
    let status = bench.until(|s| s.phase.as_deref() == Some("Succeeded")).await;
    assert!(!is_ready(&status));
    assert_eq!(
        bench.runtime.take_log(),
        [
            "0 run_sandbox",
            "0 start s",
            "0 start i",
            "1 start a",
            "2 start a",
            "7 TERM s",
            "7 stop_sandbox"
        ]
    );
    let init = status.init_container_statuses.unwrap();
    assert_eq!(
        init[0].state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code,
        143
    );
    assert!(init[1].ready);
}

#[tokio::test(start_paused = true)]
async fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let spec =
        json!({"restartPolicy": "Never", "containers": containers(&["a"]), "initContainers": containers(&["i"])});
    let bench = Bench::new(spec);
    bench.runtime.runs("i", [(Duration::from_secs(1), 7)]);
    bench.start();
    let status = bench.until(|s| s.phase.as_deref() == Some("Failed")).await;
    assert_eq!(waiting(&status), Some("PodInitializing"));
    let initialized = status
        .conditions
        .unwrap()
        .into_iter()
        .find(|c| c.type_ == "Initialized")
        .unwrap();
    assert_eq!(
        initialized.message.as_deref(),
        Some("containers with incomplete status: [i]")
    );
}

#[tokio::test(start_paused = true)]
async fn deletion_runs_hooks_signals_grace_and_sidecars_in_reverse_and_removes_the_object_last() {
    let spec = json!({"terminationGracePeriodSeconds": 30,
        "initContainers": [{"name": "s1", "image": "image:1", "restartPolicy": "Always"},
            {"name": "s2", "image": "image:1", "restartPolicy": "Always"}],
        "containers": [{"name": "a", "image": "image:1", "lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}},
            {"name": "b", "image": "image:1"}]});
    let mut bench = Bench::new(spec);
    let worker = bench.start();
    bench.until(is_ready).await;
    bench.runtime.take_log();
    bench.delete(30);
    bench.removed().await;
    worker.await.unwrap();
    let log = bench.runtime.take_log();
    assert_eq!(
        log,
        [
            "0 exec bye",
            "0 TERM a",
            "0 TERM b",
            "0 TERM s2",
            "0 TERM s1",
            "0 stop_sandbox",
            "0 remove_sandbox"
        ]
    );
    let last = bench.last().unwrap();
    assert_eq!(last.phase.as_deref(), Some("Failed"));
    assert!(
        last.container_statuses
            .unwrap()
            .iter()
            .all(|c| c.state.as_ref().unwrap().terminated.is_some())
    );
    assert!(!bench.cx.pod_dir("uid").exists());
    assert!(bench.events().contains(&"Normal Killing Stopping container a".into()));
}

#[tokio::test(start_paused = true)]
async fn a_second_deletion_shortens_the_grace_period() {
    let mut bench = Bench::new(json!({"containers": containers(&["a"])}));
    bench.runtime.stubborn("a");
    bench.start();
    bench.until(is_ready).await;
    bench.delete(300);
    bench.cx.clock.sleep(Duration::from_secs(5)).await;
    bench.delete(2);
    bench.removed().await;
    let log = bench.runtime.take_log();
    assert!(log.contains(&"7 signal 9 a".into()), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_its_probe_and_liveness_restarts() {
    let probe = |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 5, "failureThreshold": 2});
    let bench = Bench::new(json!({"containers": [{"name": "a", "image": "image:1",
        "readinessProbe": probe("ready"), "livenessProbe": probe("alive")}]}));
    bench.runtime.execs("ready", [1, 0, 1, 1, 0]);
    bench.runtime.execs("alive", [0, 0, 0, 0, 0, 0, 1, 1, 0]);
    bench.start();
    bench
        .until(|s| s.phase.as_deref() == Some("Running") && !is_ready(s))
        .await;
    bench.until(is_ready).await;
    assert_eq!(bench.cx.clock.now(), at("2026-01-01T00:00:05Z"));
    bench.until(|s| !is_ready(s)).await;
    assert_eq!(bench.cx.clock.now(), at("2026-01-01T00:00:15Z"));
    bench.until(is_ready).await;
    let status = bench
        .until(|s| is_ready(s) && s.container_statuses.as_ref().unwrap()[0].restart_count == 1)
        .await;
    assert!(
        status.container_statuses.unwrap()[0]
            .last_state
            .as_ref()
            .unwrap()
            .terminated
            .is_some()
    );
    let events = bench.events();
    assert!(events.contains(&"Warning Unhealthy Liveness probe failed: output".into()));
    assert!(events.contains(&"Normal Killing Container a failed liveness probe, will be restarted".into()));
}

#[tokio::test(start_paused = true)]
async fn a_startup_probe_holds_back_the_others() {
    let bench = Bench::new(json!({"containers": [{"name": "a", "image": "image:1",
        "startupProbe": {"exec": {"command": ["up"]}, "periodSeconds": 3, "failureThreshold": 10},
        "readinessProbe": {"exec": {"command": ["ready"]}}}]}));
    bench.runtime.execs("up", [1, 1, 0]);
    bench.start();
    let status = bench.until(|s| s.phase.as_deref() == Some("Running")).await;
    assert_eq!(status.container_statuses.unwrap()[0].started, Some(false));
    bench.until(is_ready).await;
    let log = bench.runtime.take_log();
    assert_eq!(log[2..], ["0 exec up", "3 exec up", "6 exec up", "6 exec ready"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_pull_backs_off_and_is_tried_again() {
    let bench = Bench::new(json!({"containers": [{"name": "a", "image": "other:1"}]}));
    bench.runtime.pulls([false, false, true]);
    bench.start();
    let status = bench.until(|s| waiting(s) == Some("ErrImagePull")).await;
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    bench.until(|s| waiting(s) == Some("ImagePullBackOff")).await;
    bench.until(is_ready).await;
    let log = bench.runtime.take_log();
    let pulls: Vec<_> = log.iter().filter(|l| l.contains("pull")).collect();
    assert_eq!(pulls, ["0 pull other:1", "10 pull other:1", "30 pull other:1"]);
    assert!(
        bench
            .events()
            .contains(&"Normal BackOff Back-off pulling image \"other:1\"".into())
    );
}

#[tokio::test(start_paused = true)]
async fn an_image_whose_name_is_none_is_not_asked_for() {
    let bench = Bench::new(json!({"containers": [{"name": "a", "image": "Not A Name", "imagePullPolicy": "Never"}]}));
    bench.start();
    bench.until(|s| waiting(s) == Some("InvalidImageName")).await;
    let events = bench.events();
    assert!(
        events[0].starts_with("Warning InspectFailed Failed to apply default image tag \"Not A Name\": "),
        "{events:?}"
    );
    assert_eq!(events[1], "Warning Failed Error: InvalidImageName");
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_holds_the_container_until_it_is_there() {
    let bench = Bench::new(json!({"containers": [{"name": "a", "image": "image:1",
        "envFrom": [{"configMapRef": {"name": "settings"}}]}]}));
    bench.start();
    let status = bench.until(|s| waiting(s) == Some("CreateContainerConfigError")).await;
    let message = status.container_statuses.unwrap()[0]
        .state
        .clone()
        .unwrap()
        .waiting
        .unwrap()
        .message;
    assert_eq!(message.as_deref(), Some("configmap \"settings\" not found"));
    bench.api.config_maps.lock().insert("settings".into(), Arc::default());
    bench.inbox.objects();
    bench.until(is_ready).await;
    assert_eq!(
        bench.cx.clock.now(),
        at("2026-01-01T00:00:00Z"),
        "no waiting for a timer"
    );
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_unknown_type_is_an_event_and_no_container() {
    let mut bench = Bench::new(json!({"containers": containers(&["a"]),
        "volumes": [{"name": "v", "iscsi": {"targetPortal": "s", "iqn": "i", "lun": 0}}]}));
    let worker = bench.start();
    bench.until(|s| waiting(s) == Some("ContainerCreating")).await;
    bench.cx.clock.sleep(Duration::from_secs(60)).await;
    let expected = "Warning FailedMount MountVolume.SetUp failed for volume \"v\" : no volume plugin matched: this node cannot provide iscsi volumes";
    assert!(bench.events().contains(&expected.into()), "{:?}", bench.events());
    assert_eq!(bench.runtime.take_log(), Vec::<String>::new());
    bench.delete(30);
    bench.removed().await;
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_starts_again_touches_nothing_that_runs() {
    let mut bench = Bench::new(json!({"containers": containers(&["a"])}));
    let worker = bench.start();
    bench.pod.status = Some(bench.until(is_ready).await);
    worker.abort();
    let _ = worker.await;
    bench.runtime.take_log();
    let written = bench.api.statuses.borrow().len();
    bench.start();
    bench.cx.clock.sleep(Duration::from_secs(600)).await;
    assert_eq!(bench.runtime.take_log(), Vec::<String>::new());
    assert_eq!(
        bench.api.statuses.borrow().len(),
        written,
        "nothing new to tell: {:#?}",
        bench.last()
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_sandbox_is_made_anew_with_its_containers() {
    let bench = Bench::new(json!({"containers": containers(&["a"])}));
    bench.start();
    bench.until(is_ready).await;
    bench.runtime.take_log();
    bench.runtime.kill_sandbox();
    bench
        .until(|s| is_ready(s) && s.container_statuses.as_ref().unwrap()[0].restart_count == 1)
        .await;
    assert_eq!(
        bench.runtime.take_log(),
        ["0 stop_sandbox", "0 run_sandbox", "0 start a"]
    );
    assert!(bench.events().iter().any(|e| e.starts_with("Normal SandboxChanged")));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_vanished_is_ended_without_telling_the_api() {
    let bench = Bench::new(json!({"containers": containers(&["a"])}));
    let worker = bench.start();
    bench.until(is_ready).await;
    bench.inbox.gone();
    worker.await.unwrap();
    assert_eq!(bench.runtime.all().1.len(), 0);
    assert!(!*bench.api.removed.borrow());
}

#[tokio::test(start_paused = true)]
async fn the_active_deadline_fails_the_pod() {
    let mut bench = Bench::new(json!({"activeDeadlineSeconds": 60, "containers": containers(&["a"])}));
    bench.pod.status = serde_json::from_value(json!({"startTime": "2026-01-01T00:00:00Z"})).unwrap();
    bench.start();
    let status = bench.until(|s| s.phase.as_deref() == Some("Failed")).await;
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(bench.cx.clock.now(), at("2026-01-01T00:01:00Z"));
}
