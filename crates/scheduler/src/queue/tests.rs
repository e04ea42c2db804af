//! The queue in virtual time.

use serde_json::json;

use super::*;
use crate::testing::{node, pod};

/// A queue in which an event helps pods that the plugin `Fit` turned down, and pods with gates are kept out.
fn queue() -> SchedulingQueue {
    let by_pod_alone = |p: &PodInfo| p.pod.spec.as_ref().is_some_and(|s| s.scheduling_gates.is_some());
    gated_by("Gates", true, by_pod_alone)
}

/// The same with another gate.
fn gated_by(
    plugin: &'static str,
    by_pod_alone: bool,
    is_closed: impl Fn(&PodInfo) -> bool + Send + Sync + 'static,
) -> SchedulingQueue {
    let hints: Hints = Box::new(|_, _, rejected_by| rejected_by.contains(&"Fit"));
    let gate = Gate { plugin, by_pod_alone };
    let gates: Gates = Box::new(move |pod| is_closed(pod).then_some(gate));
    SchedulingQueue::new(Clock::system(), Backoff::default(), hints, gates, Metrics::default())
}

fn event() -> ClusterEvent {
    ClusterEvent::NodeAdded(node("n", json!({}), json!({})))
}

async fn pop(queue: &SchedulingQueue) -> String {
    queue.pop().await.pod.uid().to_owned()
}

#[tokio::test(start_paused = true)]
async fn higher_precedence_goes_first_and_equals_go_in_order_of_arrival() {
    let queue = queue();
    for (name, precedence) in [("a", 0), ("b", 10), ("c", 0)] {
        queue.set(pod(name, json!({})), precedence);
    }
    assert_eq!(
        [pop(&queue).await, pop(&queue).await, pop(&queue).await],
        ["b", "a", "c"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_unschedulable_pod_sleeps_until_an_event_that_helps() {
    let queue = queue();
    for (name, plugin) in [("a", "Fit"), ("b", "Other")] {
        queue.set(pod(name, json!({})), 0);
        queue.unschedulable(&pop(&queue).await, vec![plugin]);
    }
    assert_eq!(queue.pending(), [0, 0, 2, 0]);
    queue.wake(event());
    assert_eq!(
        queue.pending(),
        [0, 1, 1, 0],
        "only the one that it may help, and after a back-off"
    );
    let again = queue.pop().await;
    assert_eq!((again.pod.uid(), again.attempts), ("a", 1));
}

#[tokio::test(start_paused = true)]
async fn back_off_doubles_to_its_limit_and_is_waited_for_after_errors() {
    let (queue, clock) = (queue(), Clock::system());
    queue.set(pod("a", json!({})), 0);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let uid = pop(&queue).await;
        let tried = clock.instant();
        queue.retry(&uid);
        pop(&queue).await;
        waits.push(tried.elapsed().as_secs());
        queue.retry(&uid);
        tokio::time::advance(Duration::from_secs(20)).await;
    }
    assert_eq!(waits, [1, 4, 10, 10, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn idle_time_is_used_for_pods_in_back_off_but_not_before_active_ones() {
    let (queue, clock) = (queue(), Clock::system());
    let started = clock.instant();
    queue.set(pod("a", json!({})), 0);
    queue.unschedulable(&pop(&queue).await, vec!["Fit"]);
    queue.wake(event());
    queue.set(pod("b", json!({})), 0);
    assert_eq!([pop(&queue).await, pop(&queue).await], ["b", "a"]);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_event_during_the_attempt_is_not_lost() {
    let queue = queue();
    for (name, plugin, expected) in [("a", "Fit", [0, 1, 0, 0]), ("b", "Other", [0, 0, 1, 0])] {
        queue.set(pod(name, json!({})), 0);
        let uid = pop(&queue).await;
        queue.wake(event());
        queue.unschedulable(&uid, vec![plugin]);
        assert_eq!(queue.pending(), expected, "{plugin}");
        queue.remove(&uid);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_pod_itself_wakes_it_during_the_attempt_too() {
    let queue = queue();
    let changed = || pod("a", json!({"nodeSelector": {"x": "y"}}));
    queue.set(pod("a", json!({})), 0);
    let uid = pop(&queue).await;
    queue.set(changed(), 0);
    queue.unschedulable(&uid, vec!["Other"]);
    assert_eq!(queue.pending(), [0, 1, 0, 0]);
    let uid = pop(&queue).await;
    queue.unschedulable(&uid, vec!["Other"]);
    queue.set(changed(), 0);
    assert_eq!(queue.pop().await.pod.pod.spec, changed().pod.spec);
}

#[tokio::test(start_paused = true)]
async fn a_new_status_wakes_nobody() {
    let queue = queue();
    queue.set(pod("a", json!({})), 0);
    let first = queue.pop().await.pod;
    queue.unschedulable(first.uid(), vec!["Other"]);
    let mut newer = (*first.pod).clone();
    newer.status.get_or_insert_default().message = Some("told".into());
    let newer = PodInfo {
        pod: Arc::new(newer),
        shape: first.shape.clone(),
    };
    queue.set(newer, 0);
    assert_eq!(queue.pending(), [0, 0, 1, 0]);
    assert!(queue.find("a").unwrap().pod.status.is_some(), "but it is known");
}

#[tokio::test(start_paused = true)]
async fn after_five_minutes_an_unschedulable_pod_is_tried_anyway() {
    let (queue, clock) = (queue(), Clock::system());
    queue.set(pod("a", json!({})), 0);
    let started = clock.instant();
    queue.unschedulable(&pop(&queue).await, vec!["Other"]);
    pop(&queue).await;
    assert_eq!(started.elapsed(), MAX_UNSCHEDULABLE);
}

#[tokio::test(start_paused = true)]
async fn a_gated_pod_enters_when_its_gates_are_gone() {
    let queue = queue();
    let gated = |gates: &[&str]| {
        let gates: Vec<_> = gates.iter().map(|name| json!({"name": name})).collect();
        pod("a", json!({"schedulingGates": (!gates.is_empty()).then_some(gates)}))
    };
    queue.set(gated(&["x", "y"]), 0);
    queue.wake(event());
    queue.activate("a");
    tokio::time::advance(MAX_UNSCHEDULABLE).await;
    assert_eq!(queue.pending(), [0, 0, 0, 1]);
    queue.set(gated(&["y"]), 0);
    assert_eq!(queue.pending(), [0, 0, 0, 1], "one is left");
    queue.set(gated(&[]), 0);
    assert_eq!(pop(&queue).await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_gate_of_a_plugins_own_is_asked_again_after_events_that_may_open_it_and_before_every_entry() {
    let closed = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let gate = closed.clone();
    let set = |is: bool| closed.store(is, std::sync::atomic::Ordering::Relaxed);
    for (plugin, after_event) in [("Fit", [1, 0, 0, 0]), ("Other", [0, 0, 0, 1])] {
        set(true);
        let gate = gate.clone();
        let queue = gated_by(plugin, false, move |_| gate.load(std::sync::atomic::Ordering::Relaxed));
        queue.set(pod("a", json!({})), 0);
        queue.wake(event());
        assert_eq!(queue.pending(), [0, 0, 0, 1], "{plugin}: it is closed still");
        set(false);
        queue.wake(event());
        assert_eq!(queue.pending(), after_event, "{plugin}");
        queue.set(pod("a", json!({})), 0);
        let uid = pop(&queue).await;
        set(true);
        queue.unschedulable(&uid, vec!["Fit"]);
        queue.wake(event());
        assert_eq!(
            queue.pending(),
            [0, 0, 0, 1],
            "{plugin}: closed when it would come again"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_high_precedence_that_fits_nowhere_does_not_hold_up_others() {
    let queue = queue();
    queue.set(pod("high", json!({})), 1000);
    queue.set(pod("low", json!({})), 0);
    queue.unschedulable(&pop(&queue).await, vec!["Other"]);
    assert_eq!(pop(&queue).await, "low");
    // In back-off it lets others pass as well.
    queue.set(pod("higher", json!({})), 2000);
    let uid = pop(&queue).await;
    queue.wake(event());
    queue.unschedulable(&uid, vec!["Fit"]);
    queue.set(pod("lower", json!({})), -1);
    assert_eq!([pop(&queue).await, pop(&queue).await], ["lower", "higher"]);
}

#[tokio::test(start_paused = true)]
async fn a_held_pod_waits_for_its_release_and_remembers_that_it_was_woken() {
    let queue = queue();
    for (name, wakes, anyway, expected) in [
        ("a", true, false, [0, 1, 0, 0]),
        ("b", false, false, [0, 0, 1, 0]),
        ("c", false, true, [0, 1, 0, 0]),
    ] {
        queue.set(pod(name, json!({})), 0);
        let uid = pop(&queue).await;
        queue.hold(&uid);
        queue.unschedulable(&uid, vec!["Fit"]);
        if wakes {
            queue.wake(event());
        }
        assert_eq!(queue.pending(), [0, 0, 1, 0]);
        queue.release(&uid, anyway);
        assert_eq!(queue.pending(), expected, "{name}");
        queue.remove(&uid);
    }
}
