//! The scheduling queue: active (by priority, then age), back-off, unschedulable and gated pods.
//!
//! An unschedulable pod is woken only by an event that one of the plugins that turned it down thinks may help, or after
//! five minutes. An event that arrives while a pod is being tried is not lost: that pod goes to back-off, not to
//! unschedulable.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use coracle_clock::{Clock, Instant};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cache::PodInfo;

const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// After this long an unschedulable pod is tried again whatever happened.
const MAX_UNSCHEDULABLE: Duration = Duration::from_secs(300);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Active,
    Backoff(Instant),
    Unschedulable(Instant),
    Gated,
    /// Popped; `events` is the count of events when that happened.
    InFlight {
        events: u64,
    },
}

struct Entry {
    pod: PodInfo,
    attempts: u32,
    rejected_by: Vec<&'static str>,
    added: u64,
    place: Place,
}

/// Order in the active queue: higher priority first, then first come.
type ActiveKey = (Reverse<i32>, u64, String);

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    active: BTreeSet<ActiveKey>,
    /// When something is due: the end of a back-off or of the longest wait.
    timers: BTreeSet<(Instant, String)>,
    events: u64,
    added: u64,
}

/// Pods that wait for a node. Shared by the event handlers and the scheduling loop.
pub struct SchedulingQueue {
    state: Mutex<State>,
    changed: Notify,
    clock: Clock,
}

/// A popped pod, and how often it has been tried before.
#[derive(Debug)]
pub struct Attempt {
    pub pod: PodInfo,
    pub attempts: u32,
}

fn backoff(attempts: u32) -> Duration {
    INITIAL_BACKOFF
        .saturating_mul(1_u32 << attempts.saturating_sub(1).min(10))
        .min(MAX_BACKOFF)
}

impl State {
    fn leave(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else { return };
        match &entry.place {
            Place::Active => {
                self.active
                    .remove(&(Reverse(entry.pod.priority()), entry.added, uid.to_owned()));
            }
            Place::Backoff(at) | Place::Unschedulable(at) => {
                self.timers.remove(&(*at, uid.to_owned()));
            }
            Place::Gated | Place::InFlight { .. } => {}
        }
    }

    fn enter(&mut self, uid: &str, place: Place) {
        self.leave(uid);
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match &place {
            Place::Active => {
                self.active
                    .insert((Reverse(entry.pod.priority()), entry.added, uid.to_owned()));
            }
            Place::Backoff(at) | Place::Unschedulable(at) => {
                self.timers.insert((*at, uid.to_owned()));
            }
            Place::Gated | Place::InFlight { .. } => {}
        }
        entry.place = place;
    }
}

impl SchedulingQueue {
    pub fn new(clock: Clock) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            clock,
        }
    }

    /// A pod that needs a node appeared or its spec changed. `gated` pods wait until they are set again.
    pub fn set(&self, pod: PodInfo, gated: bool) {
        let mut state = self.state.lock();
        let uid = pod.uid().to_owned();
        let known = state.entries.contains_key(&uid);
        if known {
            let in_flight = matches!(state.entries[&uid].place, Place::InFlight { .. });
            let was_gated = state.entries[&uid].place == Place::Gated;
            let changed = state.entries[&uid].pod.pod.spec != pod.pod.spec
                || state.entries[&uid].pod.pod.metadata.labels != pod.pod.metadata.labels;
            if in_flight {
                if changed {
                    state.events += 1;
                }
                if let Some(entry) = state.entries.get_mut(&uid) {
                    entry.pod = pod;
                }
                return;
            }
            state.leave(&uid);
            let place = state.entries[&uid].place.clone();
            if let Some(entry) = state.entries.get_mut(&uid) {
                entry.pod = pod;
            }
            let next = match (gated, was_gated || changed) {
                (true, _) => Place::Gated,
                (false, true) => Place::Active,
                (false, false) => place,
            };
            state.enter(&uid, next);
        } else {
            state.added += 1;
            let added = state.added;
            let entry = Entry {
                pod,
                attempts: 0,
                rejected_by: Vec::new(),
                added,
                place: Place::Gated,
            };
            state.entries.insert(uid.clone(), entry);
            state.enter(&uid, if gated { Place::Gated } else { Place::Active });
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The pod is gone, bound, or finished.
    pub fn remove(&self, uid: &str) {
        let mut state = self.state.lock();
        state.leave(uid);
        state.entries.remove(uid);
    }

    /// Waits for the next pod to try.
    pub async fn pop(&self) -> Attempt {
        loop {
            let due = {
                let mut state = self.state.lock();
                self.release_due(&mut state);
                if let Some((_, _, uid)) = state.active.pop_first() {
                    let events = state.events;
                    if let Some(entry) = state.entries.get_mut(&uid) {
                        entry.place = Place::InFlight { events };
                        entry.attempts += 1;
                        return Attempt {
                            pod: entry.pod.clone(),
                            attempts: entry.attempts - 1,
                        };
                    }
                }
                state.timers.first().map(|(at, _)| *at)
            };
            match due {
                None => self.changed.notified().await,
                Some(at) => {
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = self.clock.sleep_until(at) => {}
                    }
                }
            }
        }
    }

    fn release_due(&self, state: &mut State) {
        let now = self.clock.instant();
        while let Some((at, uid)) = state.timers.first().cloned() {
            if at > now {
                return;
            }
            state.enter(&uid, Place::Active);
        }
    }

    /// The pod just tried does not fit: these plugins said no.
    pub fn unschedulable(&self, uid: &str, rejected_by: Vec<&'static str>) {
        let mut state = self.state.lock();
        let events = state.events;
        let now = self.clock.instant();
        let Some(entry) = state.entries.get_mut(uid) else {
            return;
        };
        let Place::InFlight { events: then } = entry.place else {
            return;
        };
        entry.rejected_by = rejected_by;
        let place = if then == events {
            Place::Unschedulable(now + MAX_UNSCHEDULABLE)
        } else {
            Place::Backoff(now + backoff(entry.attempts))
        };
        state.enter(uid, place);
        drop(state);
        self.changed.notify_one();
    }

    /// The pod just tried could not be bound (a conflict, a lost connection): try again after a back-off.
    pub fn retry(&self, uid: &str) {
        let mut state = self.state.lock();
        let now = self.clock.instant();
        let Some(entry) = state.entries.get_mut(uid) else {
            return;
        };
        let at = now + backoff(entry.attempts);
        state.enter(uid, Place::Backoff(at));
        drop(state);
        self.changed.notify_one();
    }

    /// Something happened in the cluster: wakes every unschedulable pod for which `helps` says so.
    pub fn wake(&self, helps: impl Fn(&PodInfo, &[&'static str]) -> bool) {
        let mut state = self.state.lock();
        state.events += 1;
        let now = self.clock.instant();
        let woken: Vec<(String, Duration)> = state
            .entries
            .iter()
            .filter(|(_, e)| matches!(e.place, Place::Unschedulable(_)) && helps(&e.pod, &e.rejected_by))
            .map(|(uid, e)| (uid.clone(), backoff(e.attempts)))
            .collect();
        for (uid, delay) in &woken {
            // The back-off counts from when the pod was last tried.
            let tried = match state.entries.get(uid).map(|e| e.place.clone()) {
                Some(Place::Unschedulable(at)) => at.checked_sub(MAX_UNSCHEDULABLE).unwrap_or(now),
                _ => now,
            };
            let ready = tried + *delay;
            state.enter(
                uid,
                if ready <= now {
                    Place::Active
                } else {
                    Place::Backoff(ready)
                },
            );
        }
        drop(state);
        if !woken.is_empty() {
            self.changed.notify_one();
        }
    }

    /// How many pods wait: active, in back-off, unschedulable, gated.
    pub fn pending(&self) -> [usize; 4] {
        let state = self.state.lock();
        let mut out = [0; 4];
        for entry in state.entries.values() {
            match entry.place {
                Place::Active => out[0] += 1,
                Place::Backoff(_) => out[1] += 1,
                Place::Unschedulable(_) => out[2] += 1,
                Place::Gated => out[3] += 1,
                Place::InFlight { .. } => {}
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::{Pod, PodSpec};

    use super::*;

    fn pod(name: &str, priority: i32) -> PodInfo {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.uid = Some(name.into());
        pod.spec = Some(PodSpec {
            priority: Some(priority),
            ..PodSpec::default()
        });
        PodInfo::new(Arc::new(pod))
    }

    #[tokio::test(start_paused = true)]
    async fn higher_priority_goes_first_and_equals_go_in_order_of_arrival() {
        let queue = SchedulingQueue::new(Clock::system());
        for (name, priority) in [("a", 0), ("b", 10), ("c", 0)] {
            queue.set(pod(name, priority), false);
        }
        let mut order = Vec::new();
        for _ in 0..3 {
            order.push(queue.pop().await.pod.uid().to_owned());
        }
        assert_eq!(order, ["b", "a", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unschedulable_pod_sleeps_until_an_event_that_helps() {
        let clock = Clock::system();
        let queue = SchedulingQueue::new(clock);
        queue.set(pod("a", 0), false);
        let started = clock.instant();
        let first = queue.pop().await;
        queue.unschedulable(first.pod.uid(), vec!["Fit"]);
        queue.wake(|_, rejected_by| rejected_by.contains(&"Other"));
        assert_eq!(queue.pending(), [0, 0, 1, 0]);
        queue.wake(|_, rejected_by| rejected_by.contains(&"Fit"));
        let second = queue.pop().await;
        assert_eq!(second.attempts, 1);
        assert_eq!(
            started.elapsed(),
            Duration::from_secs(1),
            "the first back-off is a second"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_during_the_attempt_is_not_lost() {
        let queue = SchedulingQueue::new(Clock::system());
        queue.set(pod("a", 0), false);
        let attempt = queue.pop().await;
        queue.wake(|_, _| true);
        queue.unschedulable(attempt.pod.uid(), vec!["Fit"]);
        assert_eq!(queue.pending(), [0, 1, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_five_minutes_an_unschedulable_pod_is_tried_anyway() {
        let clock = Clock::system();
        let queue = SchedulingQueue::new(clock);
        queue.set(pod("a", 0), false);
        let started = clock.instant();
        let attempt = queue.pop().await;
        queue.unschedulable(attempt.pod.uid(), vec!["Fit"]);
        queue.pop().await;
        assert_eq!(started.elapsed(), MAX_UNSCHEDULABLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gated_pod_enters_when_its_gates_are_gone() {
        let queue = SchedulingQueue::new(Clock::system());
        queue.set(pod("a", 0), true);
        assert_eq!(queue.pending(), [0, 0, 0, 1]);
        queue.set(pod("a", 0), false);
        assert_eq!(queue.pop().await.pod.uid(), "a");
    }
}
