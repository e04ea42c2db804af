//! What the documentation says of probes, sentence by sentence.

use super::*;

fn probed(policy: &str, probes: Value) -> Bench {
    let mut container = json!({"name": "a", "image": "image:1"});
    container
        .as_object_mut()
        .unwrap()
        .extend(probes.as_object().unwrap().clone());
    Bench::new(json!({"restartPolicy": policy, "containers": [container]}))
}

fn probe(command: &str, more: Value) -> Value {
    let mut probe = json!({"exec": {"command": [command]}});
    probe.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    probe
}

fn execs(log: &[String], command: &str) -> Vec<u64> {
    log.iter()
        .filter(|l| l.ends_with(&format!("exec {command}")))
        .map(|l| l.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_probe_begins_after_its_initial_delay_and_comes_back_every_period() {
    let bench = probed(
        "Always",
        json!({"readinessProbe": probe("ready", json!({"initialDelaySeconds": 7, "periodSeconds": 3}))}),
    );
    bench.start();
    bench.until(is_ready).await;
    bench.cx.clock.sleep(Duration::from_secs(7)).await;
    assert_eq!(execs(&bench.runtime.take_log(), "ready"), [7, 10, 13]);
}

/// tasks/configure-pod-container/configure-liveness-readiness-startup-probes: configure probes.
#[tokio::test(start_paused = true)]
async fn liveness_and_readiness_probe_delays_do_not_begin_until_the_startup_probe_has_succeeded() {
    let delayed = json!({"initialDelaySeconds": 7, "periodSeconds": 5});
    let bench = probed(
        "Always",
        json!({"startupProbe": probe("up", json!({"periodSeconds": 10})),
            "readinessProbe": probe("ready", delayed.clone()), "livenessProbe": probe("alive", delayed)}),
    );
    bench.runtime.execs("up", [1, 1, 0]);
    bench.start();
    bench.until(is_ready).await;
    let log = bench.runtime.take_log();
    assert_eq!(execs(&log, "up"), [0, 10, 20]);
    assert_eq!(bench.cx.clock.now(), at("2026-01-01T00:00:27Z"));
    assert_eq!((execs(&log, "ready")[0], execs(&log, "alive")[0]), (27, 27));
}

#[tokio::test(start_paused = true)]
async fn without_settings_a_probe_comes_every_ten_seconds_and_fails_after_three_failures() {
    let bench = probed("Always", json!({"livenessProbe": probe("alive", json!({}))}));
    bench.runtime.execs("alive", [1]);
    bench.start();
    bench
        .until(|s| s.container_statuses.as_ref().is_some_and(|c| c[0].restart_count == 1))
        .await;
    assert_eq!(execs(&bench.runtime.take_log(), "alive")[..3], [0, 10, 20]);
}

#[tokio::test(start_paused = true)]
async fn a_success_threshold_counts_consecutive_successes() {
    let settings = json!({"periodSeconds": 1, "successThreshold": 3, "failureThreshold": 1});
    let bench = probed("Always", json!({"readinessProbe": probe("ready", settings)}));
    bench.runtime.execs("ready", [0, 0, 1, 0, 0, 0]);
    bench.start();
    bench.until(is_ready).await;
    assert_eq!(bench.cx.clock.now(), at("2026-01-01T00:00:05Z"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_liveness_probe_restarts_a_container_that_ends_well_unless_it_is_never_restarted() {
    for (policy, phase, restarts, message) in [
        (
            "OnFailure",
            "Running",
            1,
            "Normal Killing Container a failed liveness probe, will be restarted",
        ),
        ("Never", "Failed", 0, "Normal Killing Container a failed liveness probe"),
    ] {
        let bench = probed(
            policy,
            json!({"livenessProbe": probe("alive", json!({"failureThreshold": 1}))}),
        );
        bench.runtime.execs("alive", [1, 0]);
        if policy == "OnFailure" {
            bench.runtime.ends_well("a");
        }
        bench.start();
        let status = bench
            .until(|s| {
                let count = s.container_statuses.as_ref().map_or(0, |c| c[0].restart_count);
                s.phase.as_deref() == Some(phase) && count == restarts && (phase == "Failed" || is_ready(s))
            })
            .await;
        assert_eq!(status.reason, None);
        assert!(bench.events().iter().any(|e| e == message), "{:?}", bench.events());
    }
}

#[tokio::test(start_paused = true)]
async fn a_startup_probe_that_never_succeeds_kills_the_container_with_the_probe_s_own_grace() {
    let settings = json!({"periodSeconds": 2, "failureThreshold": 3, "terminationGracePeriodSeconds": 4});
    let bench = probed(
        "Always",
        json!({"startupProbe": probe("up", settings), "livenessProbe": probe("alive", json!({}))}),
    );
    bench.runtime.execs("up", [1, 1, 1, 0]);
    bench.runtime.stubborn("a");
    bench.start();
    bench
        .until(|s| is_ready(s) && s.container_statuses.as_ref().unwrap()[0].restart_count == 1)
        .await;
    let log = bench.runtime.take_log();
    assert_eq!(
        log[1..7],
        [
            "0 start a",
            "0 exec up",
            "2 exec up",
            "4 exec up",
            "4 TERM a",
            "8 KILL a"
        ]
    );
    assert_eq!(
        execs(&log, "alive").first(),
        Some(&8),
        "liveness waits for the startup probe"
    );
    assert!(
        bench
            .events()
            .contains(&"Normal Killing Container a failed startup probe, will be restarted".into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_s_readiness_is_part_of_the_pod_s() {
    let bench = Bench::new(
        json!({"containers": containers(&["a"]), "initContainers": [{"name": "s", "image": "image:1",
        "restartPolicy": "Always", "readinessProbe": probe("ready", json!({"periodSeconds": 5}))}]}),
    );
    bench.runtime.execs("ready", [1, 1, 0]);
    bench.start();
    bench.until(is_ready).await;
    assert_eq!(bench.cx.clock.now(), at("2026-01-01T00:00:10Z"));
    assert_eq!(
        starts(&bench.runtime.take_log()),
        [0, 0],
        "started, not ready, is enough for the next"
    );
}

#[tokio::test(start_paused = true)]
async fn the_containers_wait_for_a_sidecar_s_startup_probe() {
    let bench = Bench::new(
        json!({"containers": containers(&["a"]), "initContainers": [{"name": "s", "image": "image:1",
        "restartPolicy": "Always", "startupProbe": probe("up", json!({"periodSeconds": 5}))}]}),
    );
    bench.runtime.execs("up", [1, 1, 0]);
    bench.start();
    bench.until(is_ready).await;
    assert_eq!(starts(&bench.runtime.take_log()), [0, 10]);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_still_probed_while_a_pod_ends_and_liveness_is_not() {
    let probes = json!({"readinessProbe": probe("ready", json!({"periodSeconds": 1})),
        "livenessProbe": probe("alive", json!({"periodSeconds": 1}))});
    let mut bench = probed("Always", probes);
    bench.runtime.stubborn("a");
    bench.start();
    bench.until(is_ready).await;
    bench.runtime.take_log();
    bench.delete(5);
    bench.removed().await;
    let log = bench.runtime.take_log();
    assert!(execs(&log, "ready").len() >= 4, "{log:?}");
    assert!(execs(&log, "alive").is_empty(), "{log:?}");
}
