//! What the documentation says of a pod's life: hooks, termination, restart rules, debug containers, readiness gates,
//! termination messages.

use super::*;

fn state(status: &PodStatus) -> k8s_openapi::api::core::v1::ContainerState {
    status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap()
}

fn second(bench: &Bench) -> i64 {
    bench
        .cx
        .clock
        .now()
        .duration_since(at("2026-01-01T00:00:00Z"))
        .as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_container_is_not_running_until_its_post_start_hook_has_ended() {
    let bench = Bench::new(json!({"containers": [{"name": "a", "image": "image:1",
        "lifecycle": {"postStart": {"sleep": {"seconds": 5}}}}]}));
    bench.start();
    bench.until(|s| waiting(s) == Some("ContainerCreating")).await;
    let status = bench.until(is_ready).await;
    assert_eq!((second(&bench), status.phase.as_deref()), (5, Some("Running")));
    let statuses = bench.api.statuses.borrow().clone();
    assert!(
        statuses[..statuses.len() - 1]
            .iter()
            .all(|s| s.phase.as_deref() == Some("Pending"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_post_start_hook_that_fails_kills_the_container_and_it_is_restarted() {
    let bench = Bench::new(json!({"containers": [{"name": "a", "image": "image:1",
        "lifecycle": {"postStart": {"exec": {"command": ["greet"]}}}}]}));
    bench.runtime.execs("greet", [1, 0]);
    bench.start();
    let status = bench.until(is_ready).await;
    assert_eq!(status.container_statuses.unwrap()[0].restart_count, 1);
    let log = bench.runtime.take_log();
    let expected = ["0 start a", "0 exec greet", "0 TERM a", "0 start a", "0 exec greet"];
    assert_eq!(log[1..], expected);
    assert!(
        bench
            .events()
            .contains(&"Warning FailedPostStartHook PostStartHook failed".into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_pre_stop_hook_runs_before_the_signal_and_within_the_grace_period() {
    for (hook, grace, expected) in [
        (10, 30, vec!["10 TERM a", "10 stop_sandbox"]),
        // It has used all of the grace period: two seconds more are given once.
        (100, 5, vec!["5 TERM a", "7 KILL a", "7 stop_sandbox"]),
    ] {
        let mut bench = Bench::new(json!({"containers": [{"name": "a", "image": "image:1",
            "lifecycle": {"preStop": {"sleep": {"seconds": hook}}}}]}));
        if hook > grace {
            bench.runtime.stubborn("a");
        }
        bench.start();
        bench.until(is_ready).await;
        bench.runtime.take_log();
        bench.delete(grace);
        bench.removed().await;
        let log = bench.runtime.take_log();
        assert_eq!(log[..log.len() - 1], expected, "a hook of {hook} s, {grace} s of grace");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_pre_stop_hook_is_told_and_does_not_keep_the_container() {
    let mut bench = Bench::new(json!({"containers": [{"name": "a", "image": "image:1",
        "lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}}]}));
    bench.runtime.execs("bye", [7]);
    bench.start();
    bench.until(is_ready).await;
    bench.delete(30);
    bench.removed().await;
    assert_eq!(second(&bench), 0);
    assert!(
        bench
            .events()
            .contains(&"Warning FailedPreStopHook PreStopHook failed".into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ignores_its_signal_is_killed_when_the_grace_period_is_over() {
    let mut bench = Bench::new(json!({"containers": containers(&["a"])}));
    bench.runtime.stubborn("a");
    bench.start();
    bench.until(is_ready).await;
    bench.runtime.take_log();
    bench.delete(30);
    bench.removed().await;
    let log = bench.runtime.take_log();
    assert_eq!(log[..2], ["0 TERM a", "30 KILL a"]);
    assert_eq!(state(&bench.last().unwrap()).terminated.unwrap().exit_code, 137);
}

#[tokio::test(start_paused = true)]
async fn an_exit_code_that_a_rule_names_restarts_a_container_of_a_pod_that_never_does() {
    let rule = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let bench = Bench::new(
        json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "image:1",
        "restartPolicy": "Never", "restartPolicyRules": rule}]}),
    );
    bench.runtime.runs(
        "a",
        [
            (Duration::from_secs(1), 42),
            (Duration::from_secs(1), 42),
            (Duration::from_secs(1), 7),
        ],
    );
    bench.start();
    let status = bench.until(|s| s.phase.as_deref() == Some("Failed")).await;
    assert_eq!(status.container_statuses.as_ref().unwrap()[0].restart_count, 2);
    assert_eq!(state(&status).terminated.unwrap().exit_code, 7);
    assert_eq!(
        starts(&bench.runtime.take_log()),
        [0, 1, 12],
        "the second restart waits out its back-off"
    );
}

#[tokio::test(start_paused = true)]
async fn an_exit_code_may_restart_the_whole_pod_from_its_first_init_container_on() {
    let rule = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]);
    let bench = Bench::new(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "once", "image": "image:1"},
            {"name": "beside", "image": "image:1", "restartPolicy": "Always"}],
        "containers": [{"name": "a", "image": "image:1", "restartPolicyRules": rule},
            {"name": "b", "image": "image:1", "lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}},
            {"name": "done", "image": "image:1"}]}));
    let second = Duration::from_secs(1);
    bench.runtime.runs("once", [(second, 0), (second, 0)]);
    bench.runtime.runs("a", [(second, 42), (second, 0)]);
    bench.runtime.runs("done", [(second / 2, 0), (second / 2, 0)]);
    bench.start();
    let has = |s: &PodStatus, kind: &str| {
        s.conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == kind && c.status == "True")
    };
    bench.until(|s| has(s, "AllContainersRestarting")).await;
    let status = bench
        .until(|s| {
            let again = |c: &k8s_openapi::api::core::v1::ContainerStatus| c.restart_count == 1;
            !has(s, "AllContainersRestarting") && s.container_statuses.iter().flatten().all(again)
        })
        .await;
    assert!(
        status
            .init_container_statuses
            .iter()
            .flatten()
            .all(|c| c.restart_count == 1)
    );
    let log = bench.runtime.take_log();
    let order: Vec<&str> = log
        .iter()
        .filter_map(|line| line.split_once(' ').map(|(_, what)| what))
        .collect();
    let round = ["start once", "start beside", "start a", "start b", "start done"];
    let started: Vec<&str> = order
        .iter()
        .copied()
        .filter(|what| what.starts_with("start "))
        .collect();
    assert_eq!(started, [round, round].concat());
    assert_eq!(
        order.iter().filter(|what| **what == "run_sandbox").count(),
        1,
        "the sandbox stays: {order:?}"
    );
    assert!(!order.contains(&"exec bye"), "{order:?}");
    // The second round ends as a pod does that never restarts.
    bench.runtime.ends_well("b");
    assert_eq!(bench.runtime.all().1.iter().filter(|c| c.name == "b").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_container_s_own_policy_wins_over_the_pod_s() {
    let bench = Bench::new(json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "image": "image:1", "restartPolicy": "OnFailure"}, {"name": "b", "image": "image:1"}]}));
    bench
        .runtime
        .runs("a", [(Duration::from_secs(1), 1), (Duration::from_secs(1), 0)]);
    bench.runtime.runs("b", [(Duration::from_secs(9), 0)]);
    bench.start();
    let status = bench.until(|s| s.phase.as_deref() == Some("Succeeded")).await;
    let restarts: Vec<_> = status
        .container_statuses
        .unwrap()
        .iter()
        .map(|c| c.restart_count)
        .collect();
    assert_eq!((restarts, second(&bench)), (vec![1, 0], 9));
}

#[tokio::test(start_paused = true)]
async fn a_debug_container_joins_its_target_and_is_never_restarted() {
    let mut bench = Bench::new(json!({"containers": containers(&["a"])}));
    bench.start();
    bench.until(is_ready).await;
    bench.runtime.runs("debug", [(Duration::from_secs(3), 0)]);
    bench.runtime.take_log();
    let debug = json!([{"name": "debug", "image": "image:1", "targetContainerName": "a"}]);
    bench.pod.spec.as_mut().unwrap().ephemeral_containers = serde_json::from_value(debug).unwrap();
    bench.inbox.pod(Arc::new(bench.pod.clone()));
    let ended = |s: &PodStatus| {
        let list = s.ephemeral_container_statuses.iter().flatten();
        let states = list.filter_map(|c| c.state.as_ref()?.terminated.as_ref());
        states.map(|t| t.exit_code).next() == Some(0)
    };
    let status = bench.until(ended).await;
    assert!(
        is_ready(&status),
        "a debug container has no part in the pod's readiness"
    );
    bench.cx.clock.sleep(Duration::from_secs(600)).await;
    assert_eq!(bench.runtime.take_log(), ["0 create debug beside a-1", "0 start debug"]);
}

#[tokio::test(start_paused = true)]
async fn a_debug_container_without_its_target_waits_and_one_without_its_image_backs_off() {
    let spec = json!({"containers": containers(&["a"]), "ephemeralContainers": [
        {"name": "astray", "image": "image:1", "targetContainerName": "none"},
        {"name": "pull", "image": "missing:1"}]});
    let bench = Bench::new(spec);
    bench.runtime.pulls([false, false, false, true]);
    bench.start();
    bench.cx.clock.sleep(Duration::from_secs(120)).await;
    let status = bench.last().unwrap();
    let list = status.ephemeral_container_statuses.as_ref().unwrap();
    let astray = list[0].state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(
        (astray.reason.as_deref(), astray.message.as_deref()),
        (
            Some("CreateContainerConfigError"),
            Some("unable to find target container \"none\"")
        )
    );
    assert!(list[1].state.as_ref().unwrap().running.is_some());
    let log = bench.runtime.take_log();
    let pulls: Vec<_> = log.iter().filter(|l| l.contains("pull missing")).collect();
    assert_eq!(pulls.len(), 4, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_readiness_gate_holds_a_ready_pod_until_somebody_opens_it() {
    let mut bench = Bench::new(json!({"containers": containers(&["a"]),
        "readinessGates": [{"conditionType": "example.com/open"}]}));
    bench.start();
    let condition = |s: &PodStatus, kind: &str| {
        let found = s.conditions.iter().flatten().find(|c| c.type_ == kind).cloned();
        found.map(|c| (c.status, c.reason, c.message)).unwrap_or_default()
    };
    let status = bench.until(|s| condition(s, "ContainersReady").0 == "True").await;
    let (ready, reason, message) = condition(&status, "Ready");
    assert_eq!(
        (ready.as_str(), reason.as_deref()),
        ("False", Some("ReadinessGatesNotReady"))
    );
    assert_eq!(
        message.as_deref(),
        Some("corresponding condition of pod readiness gate \"example.com/open\" does not exist.")
    );
    let open = json!({"type": "example.com/open", "status": "True"});
    let mut known = status;
    known
        .conditions
        .as_mut()
        .unwrap()
        .push(serde_json::from_value(open).unwrap());
    bench.pod.status = Some(known);
    bench.inbox.pod(Arc::new(bench.pod.clone()));
    bench.until(is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_container_are_its_file_or_the_end_of_its_log_when_it_failed() {
    for (policy, file, expected) in [
        ("File", "from the file", Some("from the file")),
        ("File", "", None),
        ("FallbackToLogsOnError", "from the file", Some("from the file")),
    ] {
        let bench = Bench::new(json!({"restartPolicy": "Never", "containers": [
            {"name": "a", "image": "image:1", "terminationMessagePolicy": policy}]}));
        bench.runtime.runs("a", [(Duration::from_secs(1), 3)]);
        bench.start();
        bench.until(is_ready).await;
        let path = bench.runtime.all().1[0].annotations[crate::pod::start::config::MESSAGE_ANNOTATION].clone();
        std::fs::write(path, file).unwrap();
        let status = bench.until(|s| s.phase.as_deref() == Some("Failed")).await;
        assert_eq!(
            state(&status).terminated.unwrap().message.as_deref(),
            expected,
            "{policy} {file:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn words_beyond_four_kilobytes_are_cut_off() {
    let bench = Bench::new(json!({"restartPolicy": "Never", "containers": containers(&["a"])}));
    bench.runtime.runs("a", [(Duration::from_secs(1), 0)]);
    bench.start();
    bench.until(is_ready).await;
    let path = bench.runtime.all().1[0].annotations[crate::pod::start::config::MESSAGE_ANNOTATION].clone();
    std::fs::write(path, "x".repeat(5000)).unwrap();
    let status = bench.until(|s| s.phase.as_deref() == Some("Succeeded")).await;
    assert_eq!(state(&status).terminated.unwrap().message.unwrap().len(), 4096);
}

#[tokio::test(start_paused = true)]
async fn a_failed_init_container_is_tried_again_with_growing_pauses_until_it_succeeds() {
    let bench = Bench::new(json!({"containers": containers(&["a"]), "initContainers": containers(&["i"])}));
    bench.runtime.runs(
        "i",
        [
            (Duration::ZERO, 1),
            (Duration::ZERO, 1),
            (Duration::ZERO, 1),
            (Duration::from_secs(1), 0),
        ],
    );
    bench.start();
    let status = bench.until(is_ready).await;
    assert_eq!(status.init_container_statuses.unwrap()[0].restart_count, 3);
    assert_eq!(starts(&bench.runtime.take_log()), [0, 0, 10, 30, 31]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_never_started_ends_at_once_when_it_is_deleted() {
    let mut bench = Bench::new(json!({"containers": [{"name": "a", "image": "missing:1"}]}));
    bench.runtime.pulls([false; 9]);
    bench.start();
    bench.until(|s| waiting(s) == Some("ImagePullBackOff")).await;
    bench.cx.clock.sleep(Duration::from_secs(1)).await;
    let before = second(&bench);
    bench.delete(30);
    bench.removed().await;
    assert_eq!(second(&bench), before);
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_ends_is_restarted_while_the_pod_runs_whatever_the_pod_s_policy() {
    let bench = Bench::new(
        json!({"restartPolicy": "Never", "containers": containers(&["a"]), "initContainers": [
        {"name": "s", "image": "image:1", "restartPolicy": "Always"}]}),
    );
    bench.runtime.runs("s", [(Duration::from_secs(5), 0)]);
    bench.runtime.runs("a", [(Duration::from_secs(60), 0)]);
    bench.start();
    let status = bench.until(|s| s.phase.as_deref() == Some("Succeeded")).await;
    assert_eq!(status.init_container_statuses.unwrap()[0].restart_count, 1);
}

#[tokio::test(start_paused = true)]
async fn the_signal_that_stops_a_container_is_shown() {
    let bench = Bench::new(json!({"containers": containers(&["a"])}));
    bench.start();
    let status = bench.until(is_ready).await;
    let shown = status.container_statuses.unwrap()[0].stop_signal.clone();
    assert_eq!(shown.as_deref(), Some("SIGTERM"));
}

#[tokio::test(start_paused = true)]
async fn a_service_account_token_is_renewed_in_the_running_pod_before_it_expires() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: mounts a tmpfs");
    }
    let mut containers = containers(&["a"]);
    containers[0]["volumeMounts"] = json!([{"name": "t", "mountPath": "/token"}]);
    let mut bench = Bench::new(
        json!({"containers": containers, "volumes": [{"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}}]}),
    );
    let worker = bench.start();
    bench.until(is_ready).await;
    let file = bench.cx.pod_dir("uid").join("volumes/kubernetes.io~projected/t/token");
    let token = || std::fs::read_to_string(&file).unwrap();
    let start = bench.cx.clock.now();
    let minute = async |minute: i64| {
        let when = start + jiff::SignedDuration::from_mins(minute);
        bench.cx.clock.sleep_until_time(when).await;
    };
    minute(47).await;
    assert_eq!(token(), "token 1");
    minute(50).await;
    assert_eq!(token(), "token 2", "four fifths of its hour are over");
    // While the API server is away the old one stays, and it is asked again and again.
    *bench.api.away.lock() = Some(0);
    minute(99).await;
    assert_eq!(token(), "token 2");
    assert!(bench.api.away.lock().take().unwrap() > 1);
    minute(101).await;
    assert_eq!(token(), "token 3");
    assert_eq!(
        bench.runtime.take_log(),
        ["0 run_sandbox", "0 start a"],
        "the container has not noticed"
    );
    bench.delete(30);
    bench.removed().await;
    worker.await.unwrap();
}
