//! No pod is lost and none is woken in vain: random things happen to the queue, and in the end those come out that should.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coracle_clock::Clock;
use coracle_scheduler::Metrics;
use coracle_scheduler::event::ClusterEvent;
use coracle_scheduler::queue::{Backoff, SchedulingQueue};
use coracle_scheduler::shape::PodInfo;
use coracle_scheduler::testing::{node, pod};
use proptest::prelude::*;
use serde_json::json;

/// What turns pods down, and what helps those.
const PLUGINS: [&str; 2] = ["ByNode", "ByPod"];

fn event(plugin: usize) -> ClusterEvent {
    match plugin {
        0 => ClusterEvent::NodeAdded(node("n", json!({}), json!({}))),
        _ => ClusterEvent::PodGone(pod("gone", json!({}))),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(usize),
    Remove(usize),
    /// The next pod is tried, if any is ready.
    Try,
    /// One that is being tried does not fit, by this plugin.
    Reject(usize, usize),
    /// The same, and room is being made for it.
    Preempt(usize, usize),
    /// That is done, and whether it is to be tried in any case.
    Done(usize, bool),
    /// It failed by an error.
    Fail(usize),
    Event(usize),
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..4).prop_map(Step::Add),
        1 => (0_usize..4).prop_map(Step::Remove),
        4 => Just(Step::Try),
        4 => (any::<usize>(), 0_usize..2).prop_map(|(pod, plugin)| Step::Reject(pod, plugin)),
        2 => (any::<usize>(), 0_usize..2).prop_map(|(pod, plugin)| Step::Preempt(pod, plugin)),
        2 => (0_usize..4, any::<bool>()).prop_map(|(pod, anyway)| Step::Done(pod, anyway)),
        1 => any::<usize>().prop_map(Step::Fail),
        4 => (0_usize..2).prop_map(Step::Event),
    ]
}

/// What a pod does as far as the documentation says.
#[derive(Clone, Debug)]
enum State {
    /// To be tried, at once or after a back-off.
    Ready,
    /// By whose events it has been helped since.
    Tried(BTreeSet<usize>),
    /// By this plugin.
    Waits(usize),
    /// Room is being made; and whether anything has helped meanwhile.
    Held(usize, bool),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_is_helped_is_tried_again_and_nobody_else(steps in proptest::collection::vec(a_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let hints = Box::new(|event: &ClusterEvent, _: &_, by: &[&'static str]| {
                let helps = usize::from(matches!(event, ClusterEvent::PodGone(_)));
                by.contains(&PLUGINS[helps])
            });
            let gates = Box::new(|_: &_| None);
            let backoff = Backoff { initial: Duration::from_millis(1), max: Duration::from_millis(5) };
            let queue = SchedulingQueue::new(Clock::system(), backoff, hints, gates, Metrics::default());
            let pods: Vec<PodInfo> = (0..4).map(|n| pod(&format!("p{n}"), json!({}))).collect();
            let mut model: BTreeMap<String, State> = BTreeMap::new();
            // The time passes that every back-off takes, and not that after which all are tried.
            let longest = backoff.max + Duration::from_millis(1);
            for step in &steps {
                let tried: Vec<String> = model
                    .iter()
                    .filter(|(_, state)| matches!(state, State::Tried(_)))
                    .map(|(name, _)| name.clone())
                    .collect();
                let one = |which: usize| (!tried.is_empty()).then(|| tried[which % tried.len()].clone());
                match step {
                    Step::Add(n) => {
                        queue.set(pods[*n].clone(), 0);
                        model.entry(format!("p{n}")).or_insert(State::Ready);
                    }
                    Step::Remove(n) => {
                        queue.remove(&format!("p{n}"));
                        model.remove(&format!("p{n}"));
                    }
                    Step::Try => {
                        if let Ok(attempt) = tokio::time::timeout(longest, queue.pop()).await {
                            let state = model.insert(attempt.pod.uid().to_owned(), State::Tried(BTreeSet::new()));
                            prop_assert!(matches!(state, Some(State::Ready)), "{:?} was tried: {:?}", state, &steps);
                        } else {
                            let ready = model.values().any(|s| matches!(s, State::Ready));
                            prop_assert!(!ready, "nobody was tried of {:?}: {:?}", &model, &steps);
                        }
                    }
                    Step::Reject(which, plugin) | Step::Preempt(which, plugin) => {
                        let Some(name) = one(*which) else { continue };
                        let held = matches!(step, Step::Preempt(..));
                        if held {
                            queue.hold(&name);
                        }
                        queue.unschedulable(&name, vec![PLUGINS[*plugin]]);
                        let Some(State::Tried(events)) = model.remove(&name) else { continue };
                        let helped = events.contains(plugin);
                        model.insert(name, match (held, helped) {
                            (true, helped) => State::Held(*plugin, helped),
                            (false, true) => State::Ready,
                            (false, false) => State::Waits(*plugin),
                        });
                    }
                    Step::Done(n, anyway) => {
                        let name = format!("p{n}");
                        if let Some(State::Held(plugin, helped)) = model.get(&name).cloned() {
                            queue.release(&name, *anyway);
                            let ready = helped || *anyway;
                            model.insert(name, if ready { State::Ready } else { State::Waits(plugin) });
                        }
                    }
                    Step::Fail(which) => {
                        let Some(name) = one(*which) else { continue };
                        queue.retry(&name);
                        model.insert(name, State::Ready);
                    }
                    Step::Event(kind) => {
                        queue.wake(event(*kind));
                        for state in model.values_mut() {
                            match state {
                                State::Tried(events) => {
                                    events.insert(*kind);
                                }
                                State::Waits(plugin) if plugin == kind => *state = State::Ready,
                                State::Held(plugin, helped) => *helped |= plugin == kind,
                                State::Ready | State::Waits(_) => {}
                            }
                        }
                    }
                }
            }
            let ready = |s: &&State| matches!(s, State::Ready);
            for _ in 0..model.values().filter(ready).count() {
                let attempt = tokio::time::timeout(longest, queue.pop()).await;
                let Ok(attempt) = attempt else {
                    return Err(TestCaseError::fail(format!("not all of {model:?} were tried: {steps:?}")));
                };
                let state = model.remove(attempt.pod.uid());
                prop_assert!(matches!(state, Some(State::Ready)), "{:?} was tried: {:?}", state, &steps);
            }
            prop_assert!(tokio::time::timeout(longest, queue.pop()).await.is_err(), "one too many: {:?}", &steps);
            Ok(())
        })?;
    }
}
