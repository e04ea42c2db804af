//! The scheduling queue: active (in the order of QueueSort, then of arrival), back-off, unschedulable and gated pods. Before
//! a pod comes to the active or the back-off queue the plugins of PreEnqueue are asked.
//!
//! An unschedulable pod is woken only by an event that one of the plugins that turned it down thinks may help, or after
//! five minutes. An event that arrives while a pod is being tried or bound is not lost: it is kept until that pod is done.
//! When nothing is active, pods in back-off are tried early, except those that failed by an error.

mod backoff;
mod log;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::{Clock, Instant};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::event::ClusterEvent;
use crate::metrics::Metrics;
use crate::shape::PodInfo;
use log::EventLog;

pub use backoff::Backoff;

/// After this long an unschedulable pod is tried again whatever happened.
const MAX_UNSCHEDULABLE: Duration = Duration::from_secs(300);

/// Could the event let a pod fit that these plugins turned down?
pub type Hints = Box<dyn Fn(&ClusterEvent, &PodInfo, &[&'static str]) -> bool + Send + Sync>;

/// Who keeps a pod out of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    pub plugin: &'static str,
    /// Nothing but a change of the pod itself lets it in.
    pub by_pod_alone: bool,
}

/// Who keeps the pod out now?
pub type Gates = Box<dyn Fn(&PodInfo) -> Option<Gate> + Send + Sync>;

type Uid = Arc<str>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Active,
    /// Until then.
    Backoff(Instant),
    /// The same, after an error: not tried before.
    Error(Instant),
    /// Until then at the latest.
    Unschedulable(Instant),
    Gated,
    /// Popped, when so many events had been.
    InFlight(u64),
}

struct Entry {
    pod: PodInfo,
    precedence: i64,
    attempts: u32,
    /// By plugins, since the last attempt.
    rejected_by: Vec<&'static str>,
    /// Its turn among those of like precedence.
    turn: u64,
    /// When it first came.
    since: Instant,
    /// When it was last tried.
    tried: Option<Instant>,
    place: Place,
    /// The pod itself changed while it was in flight.
    changed: bool,
    /// Room is being made for it: it is not woken, but if `Some(true)` it would have been.
    held: Option<bool>,
}

/// Order in the active queue.
type ActiveKey = (Reverse<i64>, u64, Uid);

#[derive(Default)]
struct State {
    entries: HashMap<Uid, Entry>,
    active: BTreeSet<ActiveKey>,
    backoff: BTreeSet<(Instant, Uid)>,
    errors: BTreeSet<(Instant, Uid)>,
    unschedulable: BTreeSet<(Instant, Uid)>,
    gated: usize,
    /// Of the gated ones, those that events may let in.
    openable: BTreeSet<Uid>,
    turns: u64,
    log: EventLog,
    metrics: Metrics,
}

/// Pods that wait for a node. Shared by the event handlers and the scheduling loop.
pub struct SchedulingQueue {
    state: Mutex<State>,
    changed: Notify,
    clock: Clock,
    backoff: Backoff,
    hints: Hints,
    gates: Gates,
}

/// A popped pod, how often it has been tried before, and since when it has waited.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub pod: PodInfo,
    pub attempts: u32,
    pub since: Instant,
}

impl State {
    fn leave(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else { return };
        let key = |at: &Instant| (*at, Uid::from(uid));
        match &entry.place {
            Place::Active => {
                self.active.remove(&(Reverse(entry.precedence), entry.turn, uid.into()));
            }
            Place::Backoff(at) => {
                self.backoff.remove(&key(at));
            }
            Place::Error(at) => {
                self.errors.remove(&key(at));
            }
            Place::Unschedulable(at) => {
                self.unschedulable.remove(&key(at));
            }
            Place::Gated => {
                self.gated -= 1;
                self.openable.remove(uid);
            }
            Place::InFlight(seen) => self.log.leave(*seen),
        }
    }

    /// `event` is what moves it.
    fn enter(&mut self, uid: &str, place: Place, event: &'static str) {
        self.leave(uid);
        self.turns += 1;
        let turn = self.turns;
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let uid = Uid::from(uid);
        let queue = match &place {
            Place::Active => {
                entry.turn = turn;
                self.active.insert((Reverse(entry.precedence), turn, uid));
                "active"
            }
            Place::Backoff(at) => {
                self.backoff.insert((*at, uid));
                "backoff"
            }
            Place::Error(at) => {
                self.errors.insert((*at, uid));
                "backoff"
            }
            Place::Unschedulable(at) => {
                self.unschedulable.insert((*at, uid));
                "unschedulable"
            }
            Place::Gated => {
                self.gated += 1;
                "gated"
            }
            Place::InFlight(_) => "",
        };
        entry.place = place;
        if !queue.is_empty() {
            self.metrics.incoming(queue, event);
        }
    }

    fn pending(&self) -> [usize; 4] {
        [
            self.active.len(),
            self.backoff.len() + self.errors.len(),
            self.unschedulable.len(),
            self.gated,
        ]
    }

    fn blame(&self, uid: &str, by: i64) {
        if let Some(entry) = self.entries.get(uid) {
            let spec = entry.pod.pod.spec.as_ref();
            let profile = spec.and_then(|s| s.scheduler_name.as_deref()).unwrap_or_default();
            for plugin in &entry.rejected_by {
                self.metrics.unschedulable(plugin, profile, by);
            }
        }
    }
}

impl SchedulingQueue {
    pub fn new(clock: Clock, backoff: Backoff, hints: Hints, gates: Gates, metrics: Metrics) -> Self {
        let state = State {
            metrics,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            clock,
            backoff,
            hints,
            gates,
        }
    }

    /// Lets the pod into the active or the back-off queue, unless a plugin keeps it out.
    fn admit(&self, state: &mut State, uid: &str, place: Place, event: &'static str) {
        let gate = state.entries.get(uid).and_then(|e| (self.gates)(&e.pod));
        match gate {
            None => state.enter(uid, place, event),
            Some(gate) => {
                state.blame(uid, -1);
                if let Some(entry) = state.entries.get_mut(uid) {
                    entry.rejected_by = vec![gate.plugin];
                }
                state.blame(uid, 1);
                state.enter(uid, Place::Gated, event);
                if !gate.by_pod_alone {
                    state.openable.insert(uid.into());
                }
            }
        }
    }

    /// Counts, and wakes the loop.
    fn done(&self, state: parking_lot::MutexGuard<'_, State>) {
        state.metrics.pending(state.pending());
        drop(state);
        self.changed.notify_one();
    }

    /// A pod that needs a node appeared or changed. Those of higher `precedence` go first.
    pub fn set(&self, pod: PodInfo, precedence: i64) {
        let mut state = self.state.lock();
        let now = self.clock.instant();
        let uid = Uid::from(pod.uid());
        if let Some(entry) = state.entries.get(&uid) {
            let changed = !Arc::ptr_eq(&entry.pod.shape, &pod.shape)
                || entry.pod.pod.spec != pod.pod.spec
                || entry.pod.pod.metadata.labels != pod.pod.metadata.labels;
            let place = entry.place.clone();
            if matches!(place, Place::InFlight(_)) {
                if let Some(entry) = state.entries.get_mut(&uid) {
                    entry.changed |= changed;
                    entry.pod = pod;
                }
                return;
            }
            // A gate may look at what nobody else does.
            if !changed && (place != Place::Gated || (self.gates)(&pod).is_some()) {
                if let Some(entry) = state.entries.get_mut(&uid) {
                    entry.pod = pod;
                }
                return;
            }
            state.leave(&uid);
            if let Some(entry) = state.entries.get_mut(&uid) {
                entry.pod = pod;
                entry.precedence = precedence;
                // It has left its place; what `enter` leaves must be nowhere.
                entry.place = Place::Gated;
            }
            state.gated += 1;
            let next = match place {
                Place::Backoff(at) => Place::Backoff(at),
                Place::Error(at) => Place::Error(at),
                _ => Place::Active,
            };
            self.admit(&mut state, &uid, next, "PodUpdate");
        } else {
            let entry = Entry {
                pod,
                precedence,
                attempts: 0,
                rejected_by: Vec::new(),
                turn: 0,
                since: now,
                tried: None,
                place: Place::Gated,
                changed: false,
                held: None,
            };
            state.entries.insert(uid.clone(), entry);
            state.gated += 1;
            self.admit(&mut state, &uid, Place::Active, "PodAdd");
        }
        self.done(state);
    }

    /// The pod is gone, bound, or finished.
    pub fn remove(&self, uid: &str) {
        let mut state = self.state.lock();
        state.leave(uid);
        state.blame(uid, -1);
        state.entries.remove(uid);
        state.metrics.pending(state.pending());
    }

    /// What is known of a pod that waits.
    pub fn find(&self, uid: &str) -> Option<PodInfo> {
        self.state.lock().entries.get(uid).map(|e| e.pod.clone())
    }

    /// Waits for the next pod to try.
    pub async fn pop(&self) -> Attempt {
        loop {
            let due = {
                let mut state = self.state.lock();
                match self.try_pop(&mut state) {
                    Ok(attempt) => {
                        state.metrics.pending(state.pending());
                        return attempt;
                    }
                    Err(due) => due,
                }
            };
            match due {
                None => self.changed.notified().await,
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = self.changed.notified() => {}
                        () = self.clock.sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// The next pod, or when there may be one.
    fn try_pop(&self, state: &mut State) -> Result<Attempt, Option<Instant>> {
        let now = self.clock.instant();
        loop {
            let first = [&state.backoff, &state.errors, &state.unschedulable].map(|s| s.first().cloned());
            let Some((_, uid)) = first.into_iter().flatten().find(|(at, _)| *at <= now) else {
                break;
            };
            let held = state.entries.get_mut(&uid).and_then(|e| e.held.as_mut());
            if let Some(woken) = held {
                *woken = true;
                state.enter(&uid, Place::Unschedulable(now + MAX_UNSCHEDULABLE), "BackoffComplete");
            } else {
                state.enter(&uid, Place::Active, "BackoffComplete");
            }
        }
        let active = state.active.first().map(|(_, _, uid)| uid.clone());
        let early = || state.backoff.first().map(|(_, uid)| uid.clone());
        if let Some(uid) = active.or_else(early) {
            state.blame(&uid, -1);
            let seen = state.log.join();
            state.enter(&uid, Place::InFlight(seen), "");
            if let Some(entry) = state.entries.get_mut(&uid) {
                entry.attempts += 1;
                entry.tried = Some(now);
                entry.changed = false;
                entry.rejected_by.clear();
                return Ok(Attempt {
                    pod: entry.pod.clone(),
                    attempts: entry.attempts - 1,
                    since: entry.since,
                });
            }
        }
        let first = [&state.errors, &state.unschedulable].map(|s| s.first().map(|(at, _)| *at));
        Err(first.into_iter().flatten().min())
    }

    /// The pod just tried does not fit: these plugins said no. What has happened since it was popped may help already.
    pub fn unschedulable(&self, uid: &str, rejected_by: Vec<&'static str>) {
        let mut state = self.state.lock();
        let now = self.clock.instant();
        let Some(entry) = state.entries.get_mut(uid) else {
            return;
        };
        let Place::InFlight(seen) = entry.place else { return };
        entry.rejected_by = rejected_by;
        let (pod, rejected_by) = (entry.pod.clone(), entry.rejected_by.clone());
        let (changed, attempts) = (entry.changed, entry.attempts);
        let helped = changed || state.log.since(seen, |event| (self.hints)(event, &pod, &rejected_by));
        let held = state.entries.get_mut(uid).and_then(|e| e.held.as_mut());
        let place = match (helped, held) {
            (true, None) => Place::Backoff(now + self.backoff.after(attempts)),
            (helped, held) => {
                if let Some(woken) = held {
                    *woken |= helped;
                }
                Place::Unschedulable(now + MAX_UNSCHEDULABLE)
            }
        };
        state.blame(uid, 1);
        match place {
            Place::Backoff(_) => self.admit(&mut state, uid, place, "ScheduleAttemptFailure"),
            _ => state.enter(uid, place, "ScheduleAttemptFailure"),
        }
        self.done(state);
    }

    /// The pod just tried failed by an error (a conflict, a lost connection): try again after a back-off.
    pub fn retry(&self, uid: &str) {
        let mut state = self.state.lock();
        let now = self.clock.instant();
        let Some(entry) = state.entries.get(uid) else { return };
        let at = now + self.backoff.after(entry.attempts);
        self.admit(&mut state, uid, Place::Error(at), "ScheduleAttemptFailure");
        self.done(state);
    }

    /// Something happened in the cluster: wakes every unschedulable pod that it may help, and lets in those whose gate it
    /// opens.
    pub fn wake(&self, event: ClusterEvent) {
        let mut state = self.state.lock();
        let may_help = |e: &Entry| (self.hints)(&event, &e.pod, &e.rejected_by);
        let opens = |e: &Entry| may_help(e) && (self.gates)(&e.pod).is_none();
        let is_such = |uid: &Uid, such: &dyn Fn(&Entry) -> bool| state.entries.get(uid).is_some_and(such);
        let unschedulable = state.unschedulable.iter().map(|(_, uid)| uid);
        let woken = unschedulable.filter(|uid| is_such(uid, &may_help));
        let let_in = state.openable.iter().filter(|uid| is_such(uid, &opens));
        let woken: Vec<Uid> = woken.chain(let_in).cloned().collect();
        let name = event.name();
        state.log.record(event);
        if woken.is_empty() {
            return;
        }
        for uid in &woken {
            self.activate_in(&mut state, uid, name);
        }
        self.done(state);
    }

    /// Tries the pod again soon, if it waits unschedulable.
    pub fn activate(&self, uid: &str) {
        let mut state = self.state.lock();
        let waits = state
            .entries
            .get(uid)
            .is_some_and(|e| matches!(e.place, Place::Unschedulable(_)));
        if waits {
            self.activate_in(&mut state, uid, ClusterEvent::Retry.name());
            self.done(state);
        }
    }

    fn activate_in(&self, state: &mut State, uid: &str, event: &'static str) {
        let now = self.clock.instant();
        let Some(entry) = state.entries.get_mut(uid) else {
            return;
        };
        if let Some(woken) = &mut entry.held {
            *woken = true;
            return;
        }
        // The back-off counts from when the pod was last tried.
        let ready = entry.tried.map(|tried| tried + self.backoff.after(entry.attempts));
        let place = match ready.filter(|ready| *ready > now) {
            None => Place::Active,
            Some(ready) => Place::Backoff(ready),
        };
        self.admit(state, uid, place, event);
    }

    /// Room is being made for the pod: nothing wakes it before it is [released](Self::release).
    pub fn hold(&self, uid: &str) {
        if let Some(entry) = self.state.lock().entries.get_mut(uid) {
            entry.held.get_or_insert(false);
        }
    }

    /// All has been done to make room. The pod is tried again if something has happened meanwhile, or if `anyway`.
    pub fn release(&self, uid: &str, anyway: bool) {
        let mut state = self.state.lock();
        let Some(entry) = state.entries.get_mut(uid) else {
            return;
        };
        let woken = entry.held.take().unwrap_or(false);
        if (woken || anyway) && matches!(entry.place, Place::Unschedulable(_)) {
            self.activate_in(&mut state, uid, "PreemptionDone");
            self.done(state);
        }
    }

    /// How many pods wait: active, in back-off, unschedulable, gated.
    pub fn pending(&self) -> [usize; 4] {
        self.state.lock().pending()
    }
}

#[cfg(test)]
mod tests;
