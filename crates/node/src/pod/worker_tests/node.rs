//! What the node does to a pod, and what a pod notices of the node's troubles: eviction, refusal, resizing, static pods, an
//! API server that is away, a runtime that hangs.

use super::*;
use crate::eviction::threshold::Pressure;
use crate::patience::Patient;

fn resources(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

fn sized(cpu: &str, memory: &str, policy: Value) -> Bench {
    Bench::new(
        json!({"containers": [{"name": "a", "image": "image:1", "resources": resources(cpu, memory),
        "resizePolicy": policy}]}),
    )
}

impl Bench {
    fn resize_to(&mut self, cpu: &str, memory: &str) {
        let container = &mut self.pod.spec.as_mut().unwrap().containers[0];
        container.resources = serde_json::from_value(resources(cpu, memory)).unwrap();
        self.pod.metadata.generation = Some(self.pod.metadata.generation.unwrap_or(1) + 1);
        self.inbox.pod(Arc::new(self.pod.clone()));
    }
}

fn condition(status: &PodStatus, kind: &str) -> Option<(Option<String>, Option<String>)> {
    let found = status.conditions.iter().flatten().find(|c| c.type_ == kind)?;
    Some((found.reason.clone(), found.message.clone()))
}

fn first(status: &PodStatus) -> &k8s_openapi::api::core::v1::ContainerStatus {
    &status.container_statuses.as_ref().unwrap()[0]
}

fn shown_cpu(status: &PodStatus) -> String {
    let limits = first(status).resources.as_ref().and_then(|r| r.limits.as_ref());
    limits.and_then(|l| l.get("cpu")).map_or(String::new(), |q| q.0.clone())
}

fn node_object(labels: Value) -> Option<Arc<Node>> {
    let node = json!({"metadata": {"name": "n1", "labels": labels}});
    Some(Arc::new(serde_json::from_value(node).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_asks_for_another_node_fails_and_one_that_only_the_news_of_the_node_shows_to_fit_starts() {
    for (now, fits) in [(json!({"disk": "hdd"}), false), (json!({"disk": "ssd"}), true)] {
        let bench = Bench::new(json!({"containers": containers(&["a"]), "nodeSelector": {"disk": "ssd"}}));
        bench.cx.state.object.send_replace(node_object(json!({})));
        *bench.api.node.lock() = node_object(now);
        let _worker = bench.start();
        let status = bench
            .until(|s| s.phase.as_deref() == Some("Failed") || is_ready(s))
            .await;
        assert_eq!(is_ready(&status), fits);
        if !fits {
            assert_eq!(status.reason.as_deref(), Some("NodeAffinity"));
            assert_eq!(
                status.message.as_deref(),
                Some(
                    "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
                )
            );
            assert_eq!(bench.runtime.take_log(), [""; 0]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_port_of_the_host_is_taken_fails() {
    let mut spec = json!({"containers": containers(&["a"])});
    spec["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8080}]);
    let bench = Bench::new(spec);
    let taken = crate::pod::admission::host_ports(&bench.pod);
    bench.cx.allocations.hold_ports("other", taken);
    let _worker = bench.start();
    let status = bench.until(|s| s.phase.as_deref() == Some("Failed")).await;
    assert_eq!(status.reason.as_deref(), Some("NodePorts"));
    bench.cx.allocations.release("other");
    let ports = crate::pod::admission::host_ports(&bench.pod);
    bench.cx.allocations.take_ports("third", ports).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_fails_with_the_reason_and_the_condition_and_does_not_come_back() {
    let bench = Bench::new(json!({"containers": containers(&["a"])}));
    bench.runtime.stubborn("a");
    bench.start();
    bench.until(is_ready).await;
    bench.runtime.take_log();
    bench.inbox.stop(Stop {
        reason: "Evicted".into(),
        message: "The node was low on resource: memory. ".into(),
        grace: Some(Duration::ZERO),
        disruption: true,
    });
    bench.inbox.ended().await;
    let status = bench.until(|s| s.phase.as_deref() == Some("Failed")).await;
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    assert_eq!(
        status.message.as_deref(),
        Some("The node was low on resource: memory. ")
    );
    let (reason, message) = condition(&status, "DisruptionTarget").unwrap();
    assert_eq!(reason.as_deref(), Some("TerminationByKubelet"));
    assert_eq!(message, status.message);
    bench.cx.clock.sleep(Duration::from_secs(3600)).await;
    let log = bench.runtime.take_log();
    assert!(!log.iter().any(|l| l.contains("start")), "{log:?}");
    assert_eq!(
        log[..2],
        ["0 TERM a", "2 KILL a"],
        "a hard threshold leaves next to no grace"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_keeps_its_own_grace_when_it_is_shorter_than_the_node_s() {
    let bench = Bench::new(json!({"terminationGracePeriodSeconds": 3, "containers": containers(&["a"])}));
    bench.runtime.stubborn("a");
    bench.start();
    bench.until(is_ready).await;
    bench.runtime.take_log();
    bench.inbox.stop(Stop {
        reason: "Terminated".into(),
        message: String::new(),
        grace: Some(Duration::from_secs(60)),
        disruption: true,
    });
    bench.inbox.ended().await;
    assert_eq!(bench.runtime.take_log()[..2], ["0 TERM a", "3 KILL a"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_the_node_cannot_take_fails_before_anything_of_it_starts() {
    let pressure: fn(&Bench) = |bench| {
        bench.cx.state.pressures.send_replace([Pressure::Disk].into());
    };
    let shutdown: fn(&Bench) = |bench| {
        bench.cx.state.shutting_down.send_replace(true);
    };
    let nothing: fn(&Bench) = |_| {};
    for (prepare, cpu, reason, message) in [
        (
            pressure,
            "1",
            "Evicted",
            "Pod was rejected: The node had condition: [DiskPressure]. ",
        ),
        (
            shutdown,
            "1",
            "NodeShutdown",
            "Pod was rejected: Pod was rejected as the node is shutting down.",
        ),
        (
            nothing,
            "5",
            "OutOfcpu",
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 5000, used: 0, capacity: 4000",
        ),
    ] {
        let mut bench = sized(cpu, "1Mi", json!([]));
        prepare(&bench);
        let worker = bench.start();
        let status = bench.until(|s| s.phase.as_deref() == Some("Failed")).await;
        assert_eq!(
            (status.reason.as_deref(), status.message.as_deref()),
            (Some(reason), Some(message))
        );
        assert_eq!(bench.runtime.take_log(), [""; 0]);
        assert!(
            bench.events()[0].starts_with(&format!("Warning {reason} ")),
            "{:?}",
            bench.events()
        );
        bench.delete(0);
        bench.removed().await;
        worker.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ran_before_the_agent_is_not_refused() {
    let mut bench = sized("4", "1Mi", json!([]));
    let worker = bench.start();
    bench.pod.status = Some(bench.until(is_ready).await);
    worker.abort();
    let _ = worker.await;
    bench.cx.state.pressures.send_replace([Pressure::Disk].into());
    bench.runtime.take_log();
    bench.start();
    bench.cx.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.runtime.take_log(), [""; 0]);
    assert_eq!(bench.last().unwrap().phase.as_deref(), Some("Running"));
}

#[tokio::test(start_paused = true)]
async fn a_resize_changes_a_running_container_without_restarting_it() {
    let mut bench = sized("500m", "64Mi", json!([]));
    bench.start();
    bench.until(is_ready).await;
    bench.runtime.take_log();
    bench.resize_to("1", "128Mi");
    let status = bench.until(|s| shown_cpu(s) == "1").await;
    assert_eq!(bench.runtime.take_log(), ["0 update a"]);
    assert_eq!(first(&status).restart_count, 0);
    let status = bench.until(|s| condition(s, "PodResizeInProgress").is_none()).await;
    assert_eq!(
        first(&status).allocated_resources.as_ref().unwrap()["memory"].0,
        "128Mi"
    );
    let limits = bench.runtime.take_pod_limits();
    let quotas: Vec<_> = limits.iter().map(|l| (l.cpu_quota, l.memory_limit)).collect();
    assert_eq!(
        quotas,
        [(Some(100_000), Some(128 << 20))],
        "the pod's own limit grows first"
    );
    let events = bench.events().join("\n");
    assert!(
        events.contains("Normal ResizeStarted Pod resize started: {"),
        "{events}"
    );
    assert!(
        events.contains("Normal ResizeCompleted Pod resize completed: {"),
        "{events}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_shows_the_pod_s_resources_follows_its_resize() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: mounts a tmpfs");
    }
    let mut bench = sized("500m", "64Mi", json!([]));
    let shown =
        json!({"path": "cpu", "resourceFieldRef": {"containerName": "a", "resource": "limits.cpu", "divisor": "1m"}});
    let volumes = json!([{"name": "d", "downwardAPI": {"items": [shown]}}]);
    bench.pod.spec.as_mut().unwrap().volumes = serde_json::from_value(volumes).unwrap();
    let worker = bench.start();
    bench.until(is_ready).await;
    let file = bench.cx.pod_dir("uid").join("volumes/kubernetes.io~downward-api/d/cpu");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "500");
    bench.resize_to("1", "128Mi");
    bench.until(|s| shown_cpu(s) == "1").await;
    bench.cx.clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "1000");
    bench.delete(30);
    bench.removed().await;
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_resize_whose_policy_asks_for_it_restarts_the_container() {
    let policy = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"},
        {"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let mut bench = sized("500m", "64Mi", policy);
    bench.start();
    bench.until(is_ready).await;
    bench.runtime.take_log();
    bench.resize_to("500m", "128Mi");
    let status = bench
        .until(|s| is_ready(s) && first(s).restart_count == 1 && condition(s, "PodResizeInProgress").is_none())
        .await;
    assert_eq!(bench.runtime.take_log(), ["0 TERM a", "0 start a"]);
    let memory = &first(&status).resources.as_ref().unwrap().limits.as_ref().unwrap()["memory"];
    assert_eq!(memory.0, "128Mi");
    assert!(
        bench
            .events()
            .contains(&"Normal Killing Container a resize requires restart".into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_resize_that_does_not_fit_waits_and_is_granted_when_there_is_room() {
    let mut bench = sized("1", "64Mi", json!([]));
    bench
        .cx
        .allocations
        .admit(
            "other",
            crate::allocation::Share {
                milli_cpu: 2500,
                ..Default::default()
            },
        )
        .unwrap();
    bench.start();
    bench.until(is_ready).await;
    bench.runtime.take_log();
    bench.resize_to("2", "64Mi");
    let status = bench.until(|s| condition(s, "PodResizePending").is_some()).await;
    let (reason, message) = condition(&status, "PodResizePending").unwrap();
    assert_eq!(reason.as_deref(), Some("Deferred"));
    assert_eq!(
        message.as_deref(),
        Some("Node didn't have enough resource: cpu, requested: 2000, used: 2500, capacity: 4000")
    );
    assert_eq!(shown_cpu(&status), "1");
    assert_eq!(first(&status).allocated_resources.as_ref().unwrap()["cpu"].0, "1");
    assert_eq!(bench.runtime.take_log(), [""; 0]);
    bench.cx.allocations.release("other");
    let status = bench.until(|s| shown_cpu(s) == "2").await;
    assert_eq!(condition(&status, "PodResizePending"), None);
}

#[tokio::test(start_paused = true)]
async fn a_resize_that_can_never_fit_is_infeasible_until_it_is_taken_back() {
    let mut bench = sized("1", "64Mi", json!([]));
    bench.start();
    bench.until(is_ready).await;
    bench.resize_to("100", "64Mi");
    let status = bench.until(|s| condition(s, "PodResizePending").is_some()).await;
    let (reason, message) = condition(&status, "PodResizePending").unwrap();
    assert_eq!(reason.as_deref(), Some("Infeasible"));
    assert_eq!(
        message.as_deref(),
        Some("Node didn't have enough capacity: cpu, requested: 100000, capacity: 4000")
    );
    bench.resize_to("1", "64Mi");
    bench.until(|s| condition(s, "PodResizePending").is_none()).await;
    assert!(
        bench
            .events()
            .iter()
            .any(|e| e.starts_with("Warning ResizeInfeasible Pod resize Infeasible: {"))
    );
}

#[tokio::test(start_paused = true)]
async fn memory_is_not_taken_from_under_a_process_that_uses_it() {
    let mut bench = sized("1", "64Mi", json!([]));
    bench.start();
    bench.until(is_ready).await;
    bench.runtime.working_set("a", 50 << 20);
    bench.resize_to("1", "32Mi");
    let told = |s: &PodStatus| condition(s, "PodResizeInProgress").is_some_and(|(reason, _)| reason.is_some());
    let status = bench.until(told).await;
    let (reason, message) = condition(&status, "PodResizeInProgress").unwrap();
    assert_eq!(reason.as_deref(), Some("Error"));
    assert_eq!(
        message.as_deref(),
        Some("attempting to set container a memory limit (33554432) below current usage (52428800)")
    );
    bench.runtime.working_set("a", 10 << 20);
    bench.until(|s| condition(s, "PodResizeInProgress").is_none()).await;
    let memory = bench.runtime.all().1[0].resources.memory_limit;
    assert_eq!(memory, Some(32 << 20));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_resize_outlives_the_agent() {
    let mut bench = sized("1", "64Mi", json!([]));
    let worker = bench.start();
    bench.until(is_ready).await;
    bench.resize_to("100", "64Mi");
    bench.pod.status = Some(bench.until(|s| condition(s, "PodResizePending").is_some()).await);
    worker.abort();
    let _ = worker.await;
    bench.runtime.take_log();
    bench.start();
    bench.cx.clock.sleep(Duration::from_secs(60)).await;
    let status = bench.last().unwrap();
    assert!(condition(&status, "PodResizePending").is_some());
    assert_eq!(shown_cpu(&status), "1");
    assert_eq!(bench.runtime.take_log(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_for_an_hour_disturbs_no_pod_and_is_told_the_newest_then() {
    let bench = Bench::new(json!({"containers": containers(&["steady", "crashes"])}));
    bench.runtime.runs("crashes", [(Duration::from_secs(1800), 1)]);
    bench.start();
    bench.until(is_ready).await;
    bench.runtime.take_log();
    let before = bench.api.statuses.borrow().len();
    *bench.api.away.lock() = Some(0);
    bench.cx.clock.sleep(Duration::from_secs(3600)).await;
    assert_eq!(
        bench.runtime.take_log(),
        ["1800 start crashes"],
        "what crashes is restarted, what runs runs on"
    );
    let noticed = bench.api.away.lock().take().unwrap();
    assert!((1..150).contains(&noticed), "{noticed} attempts in half an hour");
    let status = bench
        .until(|s| s.container_statuses.as_ref().unwrap()[1].restart_count == 1)
        .await;
    assert!(is_ready(&status));
    assert_eq!(bench.api.statuses.borrow().len(), before + 1, "one write tells it all");
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_while_the_api_server_is_away_stays_until_its_end_is_told() {
    let mut bench = Bench::new(json!({"containers": containers(&["a"])}));
    let worker = bench.start();
    bench.until(is_ready).await;
    *bench.api.away.lock() = Some(0);
    bench.delete(30);
    bench.inbox.ended().await;
    bench.cx.clock.sleep(Duration::from_secs(600)).await;
    assert!(!worker.is_finished());
    *bench.api.away.lock() = None;
    bench.removed().await;
    worker.await.unwrap();
    assert_eq!(bench.last().unwrap().phase.as_deref(), Some("Failed"));
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_hangs_is_seen_in_status_and_events_and_the_pod_starts_when_it_answers() {
    let mut bench = Bench::new(json!({"containers": containers(&["a"])}));
    let clock = bench.cx.clock;
    let patient = Patient::new(bench.cx.runtime.clone(), clock, Duration::from_secs(120));
    Arc::get_mut(&mut bench.cx).unwrap().runtime = Arc::new(patient);
    bench.runtime.hang(true);
    bench.start();
    let status = bench.until(|s| waiting(s) == Some("CreateContainerError")).await;
    let message = first(&status)
        .state
        .as_ref()
        .unwrap()
        .waiting
        .as_ref()
        .unwrap()
        .message
        .clone();
    assert_eq!(
        message.as_deref(),
        Some("create_container: the container runtime did not answer within 120s")
    );
    let told = "Warning Failed Error: create_container: the container runtime did not answer within 120s";
    assert!(bench.events().contains(&told.into()), "{:?}", bench.events());
    bench.runtime.hang(false);
    bench.until(is_ready).await;
}

fn static_bench() -> Bench {
    let mut bench = Bench::new(json!({"containers": containers(&["a"])}));
    let annotations = [(crate::mirror::SOURCE, "file"), (crate::mirror::HASH, "uid")];
    let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
    bench.pod.metadata.annotations = Some(annotations.into());
    bench.pod.metadata.generation = None;
    bench
}

fn mirror_of(bench: &Bench, status: Option<PodStatus>) -> Arc<Pod> {
    let mut mirror = bench.pod.clone();
    let annotations = mirror.metadata.annotations.get_or_insert_default();
    annotations.insert("kubernetes.io/config.mirror".into(), "uid".into());
    mirror.metadata.uid = Some("mirror-uid".into());
    mirror.status = status;
    Arc::new(mirror)
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_runs_without_the_api_and_is_told_of_as_soon_as_it_has_a_mirror() {
    let bench = static_bench();
    let worker = bench.start();
    bench.cx.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.runtime.take_log(), ["0 run_sandbox", "0 start a"]);
    assert_eq!(bench.api.statuses.borrow().len(), 0);
    bench.inbox.mirror(Some(mirror_of(&bench, None)));
    let status = bench.until(is_ready).await;
    assert_eq!(status.start_time.unwrap().0, at("2026-01-01T00:00:00Z"));
    // Its mirror is deleted and made anew: the pod is told of anew, and nothing happens to it.
    bench.inbox.mirror(None);
    bench.cx.clock.sleep(Duration::from_secs(1)).await;
    let written = bench.api.statuses.borrow().len();
    bench.inbox.mirror(Some(mirror_of(&bench, None)));
    bench.cx.clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.api.statuses.borrow().len(), written + 1);
    assert_eq!(bench.runtime.take_log(), [""; 0]);
    // Its manifest goes: it is given its grace period.
    bench.runtime.stubborn("a");
    bench.inbox.gone();
    worker.await.unwrap();
    assert_eq!(bench.runtime.take_log()[..2], ["62 TERM a", "92 KILL a"]);
    assert!(!*bench.api.removed.borrow(), "mirrors are not the worker's to remove");
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_tells_of_an_earlier_run_is_told_of_this_one() {
    let bench = static_bench();
    bench.start();
    let earlier = json!({"phase": "Failed", "reason": "Terminated", "message": "of an earlier run"});
    let earlier = serde_json::from_value(earlier).unwrap();
    bench.inbox.mirror(Some(mirror_of(&bench, Some(earlier))));
    let status = bench.until(is_ready).await;
    assert_eq!((status.phase.as_deref(), status.reason), (Some("Running"), None));
    let written = bench.api.statuses.borrow().len();
    bench.inbox.mirror(Some(mirror_of(&bench, bench.last())));
    bench.cx.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(
        bench.api.statuses.borrow().len(),
        written,
        "what is right is not told again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_that_has_ended_is_not_started_again_by_its_mirror() {
    let mut bench = static_bench();
    bench.pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    bench.runtime.runs("a", [(Duration::from_secs(1), 0)]);
    bench.start();
    bench.cx.clock.sleep(Duration::from_secs(5)).await;
    bench.inbox.mirror(Some(mirror_of(&bench, None)));
    let status = bench.until(|s| s.phase.as_deref() == Some("Succeeded")).await;
    bench.inbox.mirror(Some(mirror_of(&bench, Some(status))));
    bench.cx.clock.sleep(Duration::from_secs(600)).await;
    assert_eq!(starts(&bench.runtime.take_log()), [0]);
}

fn runtime_class(bench: &Bench, name: &str, handler: &str) {
    let class = json!({"metadata": {"name": name}, "handler": handler});
    let class = Arc::new(serde_json::from_value(class).unwrap());
    bench.api.runtime_classes.lock().insert(name.into(), class);
}

/// concepts/containers/runtime-class: usage.
#[tokio::test(start_paused = true)]
async fn a_pod_is_run_by_the_handler_that_its_runtime_class_names() {
    let bench = Bench::new(json!({"containers": containers(&["a"]), "runtimeClassName": "safe"}));
    runtime_class(&bench, "safe", "gvisor");
    bench.start();
    bench.until(is_ready).await;
    assert_eq!(bench.runtime.all().0[0].config.handler, "gvisor");

    let bench = Bench::new(json!({"containers": containers(&["a"])}));
    bench.start();
    bench.until(is_ready).await;
    assert_eq!(bench.runtime.all().0[0].config.handler, "", "the default one");
}

/// concepts/workloads/pods/user-namespaces: metrics and observability.
#[tokio::test(start_paused = true)]
async fn pods_with_users_of_their_own_are_counted_and_those_that_were_not_created() {
    let mut spec = json!({"containers": containers(&["a"]), "hostUsers": false});
    let bench = Bench::new(spec.clone());
    bench.start();
    bench.until(is_ready).await;
    assert_eq!((bench.cx.users.tried(), bench.cx.users.failed()), (1, 0));
    spec["runtimeClassName"] = json!("none");
    let bench = Bench::new(spec);
    bench.start();
    bench.until(|s| s.phase.as_deref() == Some("Failed")).await;
    assert_eq!((bench.cx.users.tried(), bench.cx.users.failed()), (1, 1));
}

/// concepts/containers/runtime-class: usage.
#[tokio::test(start_paused = true)]
async fn if_the_runtime_class_does_not_exist_or_its_handler_cannot_be_run_the_pod_enters_the_failed_phase() {
    for (name, why) in [
        ("none", "RuntimeClass \"none\" not found"),
        ("foreign", "no runtime for \"kata\" is configured"),
    ] {
        let bench = Bench::new(json!({"containers": containers(&["a"]), "runtimeClassName": name}));
        runtime_class(&bench, "foreign", "kata");
        bench.start();
        let status = bench.until(|s| s.phase.as_deref() == Some("Failed")).await;
        let text = format!("Failed to create pod sandbox: {why}");
        assert_eq!(status.message.as_deref(), Some(text.as_str()));
        assert!(
            bench
                .events()
                .contains(&format!("Warning FailedCreatePodSandBox {text}"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_class_that_cannot_be_asked_for_is_asked_for_again() {
    let bench = Bench::new(json!({"containers": containers(&["a"]), "runtimeClassName": "safe"}));
    runtime_class(&bench, "safe", "gvisor");
    *bench.api.away.lock() = Some(0);
    bench.start();
    bench.cx.clock.sleep(Duration::from_secs(60)).await;
    assert!(bench.runtime.all().0.is_empty());
    *bench.api.away.lock() = None;
    bench.until(is_ready).await;
}
