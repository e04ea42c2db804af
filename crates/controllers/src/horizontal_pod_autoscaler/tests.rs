//! What the documentation says of HorizontalPodAutoscalers, sentence by sentence.

use std::sync::Arc;
use std::time::Duration;

use coracle_clock::{Clock, Timestamp};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::behavior::{Bounds, Memory};
use super::calculate::{Facts, Sample, Samples, Tolerance, by_average, by_share, by_utilization, by_value};
use super::measure::{Measured, Unmeasured, combine};

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

/// A pod that asks for 100m CPU and has long been running.
fn pod(name: &str, change: Value) -> Arc<Pod> {
    let mut all = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]},
        "status": {
            "phase": "Running", "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"}],
        },
    });
    json_patch::merge(&mut all, &change);
    Arc::new(serde_json::from_value(all).unwrap())
}

fn pods(count: usize) -> Vec<Arc<Pod>> {
    (0..count).map(|n| pod(&format!("p{n}"), json!({}))).collect()
}

/// Values of `p0`, `p1`...; `None` says nothing.
fn samples(values: &[Option<i64>]) -> Samples {
    let known = values.iter().enumerate().filter_map(|(n, v)| Some((n, (*v)?)));
    known
        .map(|(n, value)| {
            let sample = Sample {
                value,
                at: now(),
                window: Duration::from_secs(30),
            };
            (format!("p{n}"), sample)
        })
        .collect()
}

fn facts(replicas: i32, pods: &[Arc<Pod>]) -> Facts<'_> {
    Facts {
        replicas,
        pods,
        tolerance: Tolerance::default(),
        now: now(),
    }
}

fn utilization(values: &[Option<i64>], pods: &[Arc<Pod>], target: i32) -> Result<(i32, i32), String> {
    let replicas = i32::try_from(pods.len()).unwrap();
    let proposal = by_utilization(&facts(replicas, pods), samples(values), target, "cpu", None)?;
    Ok((proposal.replicas, proposal.utilization.unwrap()))
}

#[test]
fn replicas_follow_the_ratio_of_what_is_used_to_what_is_wanted() {
    let all = |value: i64, n: usize| vec![Some(value); n];
    for (values, target, expected) in [
        (all(200, 2), 100, (4, 200)),
        (all(50, 2), 100, (1, 50)),
        (all(60, 3), 50, (4, 60)),
        // Within a tenth nothing is done.
        (all(109, 3), 100, (3, 109)),
        (all(91, 3), 100, (3, 91)),
        (all(111, 3), 100, (4, 111)),
        (vec![Some(30), Some(50), Some(70)], 30, (5, 50)),
    ] {
        assert_eq!(
            utilization(&values, &pods(values.len()), target),
            Ok(expected),
            "{values:?} {target}"
        );
    }
}

#[test]
fn pods_that_say_nothing_can_only_lower_the_change() {
    for (values, target, expected) in [
        // More are wanted: the missing one counts as idle. (200+200+0)/300 = 133 %.
        (vec![Some(200), Some(200), None], 100, 4),
        // ...and so much idle that nothing is done.
        (vec![Some(120), None, None], 100, 3),
        // Fewer are wanted: the missing one counts as busy. (10+10+100)/300 = 40 %.
        (vec![Some(10), Some(10), None], 50, 3),
        (vec![Some(10), Some(10), None], 100, 2),
    ] {
        let got = utilization(&values, &pods(3), target).unwrap().0;
        assert_eq!(got, expected, "{values:?} {target}");
    }
}

#[test]
fn pods_that_are_not_ready_count_as_idle_when_more_are_wanted_and_not_at_all_otherwise() {
    let starting = json!({"status": {"startTime": "2026-01-01T00:59:00Z", "conditions": [
        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:59:00Z"}]}});
    let pending = json!({"status": {"phase": "Pending"}});
    let failed = json!({"status": {"phase": "Failed"}});
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"}});
    for (state, value, target, expected) in [
        // (200+200+0)/300 = 133 % of three.
        (starting.clone(), Some(200), 100, 4),
        (pending, None, 100, 4),
        // Not counted: 200 % of two.
        (failed, Some(10), 100, 4),
        (going, Some(1000), 100, 4),
    ] {
        let mut all = pods(2);
        all.push(pod("p2", state.clone()));
        let got = utilization(&[Some(200), Some(200), value], &all, target).unwrap().0;
        assert_eq!(got, expected, "{state}");
    }
    // Fewer are wanted: 20 % of two ready pods against 40 %.
    let mut all = pods(2);
    all.push(pod("p2", starting));
    assert_eq!(utilization(&[Some(20), Some(20), Some(500)], &all, 40).unwrap().0, 1);
}

#[test]
fn cpu_of_a_pod_that_is_starting_is_not_believed() {
    let at = |start: &str, ready: &str, since: &str| {
        json!({"status": {"startTime": start, "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": since}]}})
    };
    for (state, believed) in [
        // Ready for longer than a window, though young.
        (at("2026-01-01T00:58:00Z", "True", "2026-01-01T00:58:30Z"), true),
        // Ready for less than the window of the sample.
        (at("2026-01-01T00:58:00Z", "True", "2026-01-01T00:59:40Z"), false),
        (at("2026-01-01T00:58:00Z", "False", "2026-01-01T00:58:30Z"), false),
        // Old, and was ready once.
        (at("2026-01-01T00:00:00Z", "False", "2026-01-01T00:50:00Z"), true),
        // Old, and never was.
        (at("2026-01-01T00:00:00Z", "False", "2026-01-01T00:00:20Z"), false),
    ] {
        let all = [pod("p0", json!({})), pod("p1", state.clone())];
        let got = utilization(&[Some(100), Some(300)], &all, 100).unwrap().1;
        assert_eq!(got, if believed { 200 } else { 100 }, "{state}");
    }
}

#[test]
fn what_cannot_be_computed_is_told() {
    let bare = [pod(
        "p0",
        json!({"spec": {"containers": [{"name": "c", "resources": null}]}}),
    )];
    assert_eq!(
        utilization(&[Some(1)], &bare, 50),
        Err("missing request for cpu in container c of Pod p0".to_owned())
    );
    assert_eq!(
        utilization(&[None], &pods(1), 50),
        Err("did not receive metrics for any ready pods".to_owned())
    );
    assert_eq!(
        utilization(&[], &[], 50),
        Err("no pods returned by selector while calculating replica count".to_owned())
    );
}

#[test]
fn one_container_and_the_pod_as_a_whole_have_requests_of_their_own() {
    let two = pod(
        "p0",
        json!({"spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": "100m"}}}, {"name": "side", "resources": {"requests": {"cpu": "300m"}}}]}}),
    );
    let all = [two];
    let of = |container| by_utilization(&facts(1, &all), samples(&[Some(200)]), 100, "cpu", container).unwrap();
    assert_eq!(of(None).utilization, Some(50));
    assert_eq!(of(Some("c")).utilization, Some(200));
    let whole = [pod("p0", json!({"spec": {"resources": {"requests": {"cpu": "50m"}}}}))];
    let proposal = by_utilization(&facts(1, &whole), samples(&[Some(200)]), 100, "cpu", None).unwrap();
    assert_eq!(proposal.utilization, Some(400));
}

#[test]
fn averages_values_and_shares_have_targets_of_their_own() {
    let all = pods(4);
    let average = |values: &[Option<i64>], target| {
        let p = by_average(&facts(4, &all), samples(values), target, None).unwrap();
        (p.replicas, p.value)
    };
    assert_eq!(
        average(&[Some(1000), Some(2000), Some(3000), Some(2000)], 1000),
        (8, 2000)
    );
    // Missing pods are at the target when fewer are wanted: (500*3+1000)/4 = 625.
    assert_eq!(average(&[Some(500), Some(500), Some(500), None], 1000), (3, 500));
    let value = |replicas, value, target| by_value(&facts(replicas, &all), value, target).unwrap().replicas;
    assert_eq!(value(4, 30_000, 10_000), 12);
    assert_eq!(value(4, 10_500, 10_000), 4);
    assert_eq!(value(0, 30_000, 10_000), 3);
    let share = |value| {
        let p = by_share(&facts(4, &all), value, 1000, 4);
        (p.replicas, p.value)
    };
    assert_eq!(share(8000), (8, 2000));
    assert_eq!(share(4200), (4, 1050));
    assert_eq!(share(900), (1, 225));
}

#[test]
fn tolerance_may_differ_by_direction() {
    let all = pods(10);
    let mut facts = facts(10, &all);
    facts.tolerance = Tolerance { up: 0.5, down: 0.01 };
    let value = |value| by_value(&facts, value, 100).unwrap().replicas;
    assert_eq!((value(149), value(151), value(99), value(98)), (10, 16, 10, 10));
    assert_eq!(value(90), 9);
}

struct Autoscaler {
    clock: Clock,
    memory: Memory,
    behavior: Option<HorizontalPodAutoscalerBehavior>,
    bounds: Bounds,
    replicas: i32,
}

impl Autoscaler {
    fn new(behavior: Value, replicas: i32, max: i32) -> Self {
        let clock = Clock::starting_at(now());
        let mut memory = Memory::default();
        memory.begin(replicas, clock.instant());
        Self {
            clock,
            memory,
            behavior: serde_json::from_value(behavior).unwrap(),
            bounds: Bounds { min: 1, max },
            replicas,
        }
    }

    /// After so many seconds the metrics ask for `desired`: what is set, and the two reasons.
    async fn ask(&mut self, after: u64, desired: i32) -> (i32, &'static str, &'static str) {
        self.clock.sleep(Duration::from_secs(after)).await;
        let (now, behavior) = (self.clock.instant(), self.behavior.as_ref());
        let decision = self.memory.decide(behavior, self.bounds, self.replicas, desired, now);
        if decision.replicas != self.replicas {
            self.memory.scaled(behavior, self.replicas, decision.replicas, now);
        }
        self.replicas = decision.replicas;
        (self.replicas, decision.able.1, decision.limited.1)
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_behavior_it_doubles_at_most_and_goes_down_after_five_minutes() {
    let mut it = Autoscaler::new(Value::Null, 2, 20);
    assert_eq!(it.ask(15, 50).await, (4, "ReadyForNewScale", "ScaleUpLimit"));
    assert_eq!(it.ask(15, 50).await, (8, "ReadyForNewScale", "ScaleUpLimit"));
    assert_eq!(it.ask(15, 50).await, (16, "ReadyForNewScale", "ScaleUpLimit"));
    assert_eq!(it.ask(15, 50).await, (20, "ReadyForNewScale", "TooManyReplicas"));
    assert_eq!(it.ask(15, 20).await.0, 20);
    assert_eq!(it.ask(15, 3).await, (20, "ScaleDownStabilized", "TooManyReplicas"));
    assert_eq!(it.ask(290, 3).await, (3, "ReadyForNewScale", "DesiredWithinRange"));
    assert_eq!(it.ask(301, 0).await, (1, "ReadyForNewScale", "TooFewReplicas"));
}

#[tokio::test(start_paused = true)]
async fn policies_limit_how_much_changes_in_a_period() {
    let policies = json!([{"type": "Pods", "value": 3, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}]);
    for (select, first, later) in [("Max", 15, 23), ("Min", 13, 16), ("Disabled", 10, 10)] {
        let up = json!({"scaleUp": {"policies": policies, "selectPolicy": select, "stabilizationWindowSeconds": 0}});
        let mut it = Autoscaler::new(up, 10, 100);
        let limited = it.ask(15, 90).await;
        assert_eq!((limited.0, limited.2), (first, "ScaleUpLimit"), "{select}");
        // The period is not over.
        assert_eq!(it.ask(15, 90).await.0, first, "{select}");
        assert_eq!(it.ask(60, 90).await.0, later, "{select}");

        let down =
            json!({"scaleDown": {"policies": policies, "selectPolicy": select, "stabilizationWindowSeconds": 0}});
        let mut it = Autoscaler::new(down, 10, 100);
        let limited = it.ask(15, 1).await;
        let least = match select {
            "Max" => 5,
            "Min" => 7,
            _ => 10,
        };
        assert_eq!((limited.0, limited.2), (least, "ScaleDownLimit"), "{select}");
        assert_eq!(it.ask(15, 1).await.0, least, "{select}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stabilization_window_holds_changes_that_were_not_wanted_all_along() {
    let both = json!({"scaleUp": {"stabilizationWindowSeconds": 60}, "scaleDown": {"stabilizationWindowSeconds": 120}});
    let mut it = Autoscaler::new(both, 5, 100);
    assert_eq!(it.ask(15, 8).await, (5, "ScaleUpStabilized", "DesiredWithinRange"));
    assert_eq!(it.ask(30, 7).await.0, 5);
    // The first recommendation, of five replicas, is out of the window now; the lowest in it is 7.
    assert_eq!(it.ask(20, 9).await, (7, "ScaleUpStabilized", "DesiredWithinRange"));
    assert_eq!(it.ask(15, 2).await, (7, "ScaleDownStabilized", "DesiredWithinRange"));
    assert_eq!(it.ask(119, 2).await.0, 2);
}

#[tokio::test(start_paused = true)]
async fn defaults_of_a_behavior_are_fast_up_and_slow_down() {
    let mut it = Autoscaler::new(json!({}), 1, 100);
    assert_eq!(it.ask(15, 90).await, (5, "ReadyForNewScale", "ScaleUpLimit"));
    assert_eq!(it.ask(15, 90).await.0, 10);
    assert_eq!(it.ask(15, 1).await, (10, "ScaleDownStabilized", "DesiredWithinRange"));
    assert_eq!(it.ask(301, 1).await, (1, "ReadyForNewScale", "DesiredWithinRange"));
}

fn says(replicas: i32) -> Result<Measured, Unmeasured> {
    Ok(Measured {
        replicas,
        name: format!("m{replicas}"),
        status: Default::default(),
    })
}

fn fails() -> Result<Measured, Unmeasured> {
    Err(Unmeasured {
        reason: "FailedGetResourceMetric",
        message: "m".into(),
        error: "e".into(),
    })
}

#[test]
fn the_metric_that_asks_for_most_wins_and_one_that_fails_forbids_to_go_down() {
    for (results, current, expected) in [
        (vec![says(3), says(5), says(4)], 4, Some((5, 0))),
        (vec![says(3), fails()], 2, Some((3, 1))),
        (vec![fails(), says(2), fails()], 2, Some((2, 2))),
        (vec![says(3), fails()], 4, None),
        (vec![says(3)], 4, Some((3, 0))),
        (vec![fails()], 4, None),
    ] {
        let outcome = combine(&results, current).ok();
        let got = outcome.map(|o| (o.replicas, o.failure.map_or(0, |f| f.1)));
        assert_eq!(got, expected);
    }
}
