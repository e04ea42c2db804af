//! What the pods of a set add up to, kept by change: a look costs as much as pods have changed since the last one, however
//! many the set has. It reads the cache of pods and nothing else; what to do about the sums is the plan's.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::ObjectKey;
use coracle_clock::Timestamp;
use coracle_informer::Lister;
use indexmap::IndexSet;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use crate::claim::{is_orphan, selected};
use crate::members::Members;
use crate::owner::controller_of;
use crate::pods::{available_at, is_active, is_ready, is_terminating};

/// What of a set decides how its pods count.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    uid: String,
    selector: LabelSelector,
    /// The template's.
    labels: BTreeMap<String, String>,
    min_ready_seconds: i32,
}

impl Basis {
    pub fn of(set: &ReplicaSet, selector: LabelSelector) -> Self {
        let template = set.spec.template.as_ref().and_then(|t| t.metadata.as_ref());
        Self {
            uid: set.metadata.uid.clone().unwrap_or_default(),
            selector,
            labels: template.and_then(|m| m.labels.clone()).unwrap_or_default(),
            min_ready_seconds: set.spec.min_ready_seconds.unwrap_or(0),
        }
    }

    /// Whether the set is meant to have this pod.
    pub fn selects(&self, pod: &Pod) -> bool {
        selected(&self.selector, &pod.metadata)
    }

    /// The set's pods, as the cache has them.
    pub fn owned(&self, pods: &Lister<Pod>) -> Vec<Arc<Pod>> {
        let mut owned = pods.controlled_by(&self.uid);
        owned.retain(|pod| self.selects(pod));
        owned
    }

    /// How a pod counts that the set has.
    pub fn share(&self, pod: &Pod) -> Share {
        if !is_active(pod) {
            return Share {
                terminating: is_terminating(pod),
                ..Share::default()
            };
        }
        let own = pod.metadata.labels.as_ref();
        Share {
            active: true,
            labeled: self.labels.iter().all(|(k, v)| own.and_then(|o| o.get(k)) == Some(v)),
            ready: is_ready(pod),
            available_at: available_at(pod, self.min_ready_seconds),
            terminating: false,
        }
    }
}

/// How one pod counts. Only an active one counts as anything but terminating.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    active: bool,
    labeled: bool,
    ready: bool,
    available_at: Option<Timestamp>,
    terminating: bool,
}

/// What pods add up to at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub active: i32,
    pub labeled: i32,
    pub ready: i32,
    pub available: i32,
    pub terminating: i32,
    /// When the next pod will be available.
    pub next: Option<Timestamp>,
}

impl Totals {
    /// With one pod more.
    pub fn add(&mut self, share: &Share, now: Timestamp) {
        self.count(share, now, 1);
        if let Some(at) = share.available_at.filter(|at| *at > now) {
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
    }

    fn count(&mut self, share: &Share, now: Timestamp, by: i32) {
        self.active += by * i32::from(share.active);
        self.labeled += by * i32::from(share.labeled);
        self.ready += by * i32::from(share.ready);
        self.available += by * i32::from(share.available_at.is_some_and(|at| at <= now));
        self.terminating += by * i32::from(share.terminating);
    }
}

/// What the cache says of a set's pods.
#[derive(Debug)]
pub struct Look {
    pub totals: Totals,
    /// Pods that nobody controls and the set would have.
    pub orphans: Vec<Arc<Pod>>,
    /// Pods that the set controls and is not meant to have.
    pub strangers: Vec<Arc<Pod>>,
}

/// The sums of one set.
struct Tally {
    basis: Basis,
    shares: HashMap<ObjectKey<Pod>, Share>,
    strangers: IndexSet<ObjectKey<Pod>>,
    /// How many pods are available from a time on.
    times: BTreeMap<Timestamp, i32>,
    /// As of `now`.
    totals: Totals,
    now: Timestamp,
}

impl Tally {
    fn new(basis: Basis, now: Timestamp) -> Self {
        Self {
            basis,
            shares: HashMap::new(),
            strangers: IndexSet::new(),
            times: BTreeMap::new(),
            totals: Totals::default(),
            now,
        }
    }

    /// The pod of this key is now so, or gone.
    fn update(&mut self, key: ObjectKey<Pod>, pod: Option<&Pod>) {
        if let Some(share) = self.shares.remove(&key) {
            self.count(&share, -1);
        }
        self.strangers.swap_remove(&key);
        let controlled = |pod: &&Pod| owner_of(Some(pod)) == Some(self.basis.uid.as_str());
        match pod.filter(controlled) {
            Some(pod) if self.basis.selects(pod) => {
                let share = self.basis.share(pod);
                self.count(&share, 1);
                self.shares.insert(key, share);
            }
            Some(_) => drop(self.strangers.insert(key)),
            None => {}
        }
    }

    fn count(&mut self, share: &Share, by: i32) {
        self.totals.count(share, self.now, by);
        if let Some(at) = share.available_at {
            let pods = self.times.entry(at).or_default();
            *pods += by;
            if *pods == 0 {
                self.times.remove(&at);
            }
        }
    }

    /// It is now so late; a clock that was put back makes it earlier.
    fn turn(&mut self, now: Timestamp) {
        let between = |from: Timestamp, to: Timestamp| -> i32 {
            let times = self.times.range((Excluded(from), Included(to)));
            times.map(|(_, pods)| pods).sum()
        };
        if now > self.now {
            self.totals.available += between(self.now, now);
        } else if now < self.now {
            self.totals.available -= between(now, self.now);
        }
        self.now = now;
        let later = self.times.range((Excluded(now), Unbounded)).next();
        self.totals.next = later.map(|(at, _)| *at);
    }
}

/// The pods of each set that changed since it was looked at, by the set's uid. Sets that are not here are not counted.
type Changed = HashMap<String, IndexSet<ObjectKey<Pod>>>;

/// The sums of every set of a controller.
pub struct Tallies<K> {
    tallies: Mutex<HashMap<ObjectKey<K>, Tally>>,
    changed: Arc<Mutex<Changed>>,
    orphans: Members<K>,
}

impl<K: 'static> Default for Tallies<K> {
    fn default() -> Self {
        Self {
            tallies: Mutex::default(),
            changed: Arc::default(),
            orphans: Members::new(is_orphan),
        }
    }
}

fn owner_of(pod: Option<&Pod>) -> Option<&str> {
    controller_of(&pod?.metadata).map(|owner| owner.uid.as_str())
}

impl<K: 'static> Tallies<K> {
    /// What the cache of pods must tell of its changes.
    pub fn observer(&self) -> impl Fn(&ObjectKey<Pod>, Option<&Pod>, Option<&Pod>) + Send + Sync + use<K> {
        let (changed, orphans) = (self.changed.clone(), self.orphans.observer());
        move |key, old, new| {
            orphans(key, old, new);
            let (before, after) = (owner_of(old), owner_of(new));
            let mut changed = changed.lock();
            for uid in after.into_iter().chain(before.filter(|uid| after != Some(uid))) {
                if let Some(pods) = changed.get_mut(uid) {
                    pods.insert(key.clone());
                }
            }
        }
    }

    /// The pods that nobody controls, by the sets that would have them.
    pub fn orphans(&self) -> &Members<K> {
        &self.orphans
    }

    /// What the cache says of a set's pods now.
    pub fn look(&self, key: &ObjectKey<K>, basis: &Basis, pods: &Lister<Pod>, now: Timestamp) -> Look {
        // Orphans first: one that becomes the set's meanwhile is seen among its pods.
        let mut orphans = self.orphans.of(key, &basis.selector, pods);
        let changed = self.changed.lock().insert(basis.uid.clone(), IndexSet::new());
        let kept = self.tallies.lock().remove(key);
        if let Some(other) = kept.as_ref().filter(|kept| kept.basis.uid != basis.uid) {
            self.changed.lock().remove(&other.basis.uid);
        }
        let mut tally = match (kept.filter(|kept| kept.basis == *basis), changed) {
            (Some(mut tally), Some(changed)) => {
                for key in changed {
                    let pod = pods.get(&key);
                    tally.update(key, pod.as_deref());
                }
                tally
            }
            _ => {
                let mut tally = Tally::new(basis.clone(), now);
                for pod in pods.controlled_by(&basis.uid) {
                    tally.update(ObjectKey::of(&*pod), Some(&pod));
                }
                tally
            }
        };
        tally.turn(now);
        orphans.retain(|pod| !tally.shares.contains_key(&ObjectKey::of(&**pod)));
        let look = Look {
            totals: tally.totals,
            orphans,
            strangers: tally.strangers.iter().filter_map(|key| pods.get(key)).collect(),
        };
        self.tallies.lock().insert(key.clone(), tally);
        look
    }

    /// The set is gone, or is not looked at.
    pub fn forget(&self, key: &ObjectKey<K>) {
        self.orphans.forget(key);
        if let Some(tally) = self.tallies.lock().remove(key) {
            self.changed.lock().remove(&tally.basis.uid);
        }
    }
}
