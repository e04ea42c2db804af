//! What the scheduler knows of the cluster: nodes and the pods on them, including pods it has placed whose binding has not
//! come back from the API yet (assumed pods).
//!
//! There is one [`Snapshot`], and it is never copied. While a cycle looks at it, changes wait in a list; otherwise they are
//! made at once. So event handlers never wait for a cycle, and a cycle sees the cluster of one moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use parking_lot::{Mutex, MutexGuard};

use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Placed by this scheduler; the API has not confirmed it.
    Assumed,
    Bound,
}

struct Placed {
    pod: PodInfo,
    node: Arc<str>,
    standing: Standing,
}

enum Delta {
    Node(Arc<Node>),
    NodeGone(String),
    Add(Arc<str>, PodInfo),
    /// The pod's object is a newer one, and nothing that is summed up has changed.
    Renew(Arc<str>, PodInfo),
    Remove(Arc<str>, String),
}

#[derive(Default)]
struct State {
    /// By uid.
    placed: HashMap<String, Placed>,
    assumed: usize,
    waiting: Vec<Delta>,
}

/// The snapshot, and pods whose node it does not have (yet).
#[derive(Default)]
struct View {
    snapshot: Snapshot,
    /// By node, then by uid.
    stranded: HashMap<Arc<str>, BTreeMap<String, PodInfo>>,
}

/// See the [module](self).
#[derive(Default)]
pub struct Cache {
    state: Mutex<State>,
    view: Mutex<View>,
}

/// The snapshot for one cycle; changes wait until it is dropped.
pub struct CycleView<'a>(MutexGuard<'a, View>);

impl std::ops::Deref for CycleView<'_> {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0.snapshot
    }
}

impl std::ops::DerefMut for CycleView<'_> {
    fn deref_mut(&mut self) -> &mut Snapshot {
        &mut self.0.snapshot
    }
}

impl Cache {
    /// The cluster as it is now, for the length of a cycle.
    pub fn cycle(&self) -> CycleView<'_> {
        let mut view = self.view.lock();
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        for delta in waiting {
            view.apply(delta);
        }
        view.snapshot.settle();
        CycleView(view)
    }

    /// A node was added or changed.
    pub fn set_node(&self, node: Arc<Node>) {
        self.change(&mut self.state.lock(), Delta::Node(node));
    }

    /// The node is gone; its pods stay known, should it come back.
    pub fn remove_node(&self, name: &str) {
        self.change(&mut self.state.lock(), Delta::NodeGone(name.to_owned()));
    }

    /// The API says that the pod is on `node`.
    pub fn set_pod(&self, pod: PodInfo, node: &str) {
        self.place(pod, node, Standing::Bound);
    }

    /// The scheduler has chosen `node`; until the API confirms or the binding fails, the pod counts there.
    pub fn assume(&self, pod: PodInfo, node: &str) {
        self.place(pod, node, Standing::Assumed);
    }

    /// The binding failed: the pod is nowhere. A pod that the API has confirmed stays. Whether it was forgotten.
    pub fn forget(&self, uid: &str) -> bool {
        let mut state = self.state.lock();
        let assumed = state.placed.get(uid).is_some_and(|p| p.standing == Standing::Assumed);
        if assumed {
            self.remove(&mut state, uid);
        }
        assumed
    }

    pub fn remove_pod(&self, uid: &str) {
        self.remove(&mut self.state.lock(), uid);
    }

    /// The pod, if it is on a node.
    pub fn placed(&self, uid: &str) -> Option<PodInfo> {
        self.state.lock().placed.get(uid).map(|p| p.pod.clone())
    }

    pub fn is_placed(&self, uid: &str) -> bool {
        self.state.lock().placed.contains_key(uid)
    }

    /// How many pods are placed, and how many of them are assumed.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.placed.len(), state.assumed)
    }

    fn place(&self, pod: PodInfo, node: &str, standing: Standing) {
        let mut state = self.state.lock();
        if let Some(placed) = state.placed.get_mut(pod.uid())
            && placed.node.as_ref() == node
            && Arc::ptr_eq(&placed.pod.shape, &pod.shape)
            && placed.pod.is_terminating() == pod.is_terminating()
        {
            let before = std::mem::replace(&mut placed.standing, standing);
            placed.pod = pod.clone();
            let node = placed.node.clone();
            state.assumed += usize::from(standing == Standing::Assumed);
            state.assumed -= usize::from(before == Standing::Assumed);
            self.change(&mut state, Delta::Renew(node, pod));
            return;
        }
        self.remove(&mut state, pod.uid());
        let node: Arc<str> = node.into();
        let placed = Placed {
            pod: pod.clone(),
            node: node.clone(),
            standing,
        };
        state.assumed += usize::from(standing == Standing::Assumed);
        state.placed.insert(pod.uid().to_owned(), placed);
        self.change(&mut state, Delta::Add(node, pod));
    }

    fn remove(&self, state: &mut State, uid: &str) {
        if let Some(placed) = state.placed.remove(uid) {
            state.assumed -= usize::from(placed.standing == Standing::Assumed);
            self.change(state, Delta::Remove(placed.node, uid.to_owned()));
        }
    }

    /// At once if no cycle is under way (the cycle locks the view first and the state second, so here it is only tried).
    fn change(&self, state: &mut State, delta: Delta) {
        state.waiting.push(delta);
        if let Some(mut view) = self.view.try_lock() {
            for delta in state.waiting.drain(..) {
                view.apply(delta);
            }
        }
    }
}

impl View {
    fn apply(&mut self, delta: Delta) {
        match delta {
            Delta::Node(node) => {
                let name = node.metadata.name.clone().unwrap_or_default();
                self.snapshot.set_node(node);
                for pod in self
                    .stranded
                    .remove(name.as_str())
                    .into_iter()
                    .flat_map(BTreeMap::into_values)
                {
                    self.snapshot.add_pod(&name, pod);
                }
            }
            Delta::NodeGone(name) => {
                let pods = self.snapshot.remove_node(&name);
                if !pods.is_empty() {
                    let pods = pods.into_iter().map(|p| (p.uid().to_owned(), p));
                    self.stranded.entry(name.into()).or_default().extend(pods);
                }
            }
            Delta::Add(node, pod) => {
                if !self.snapshot.add_pod(&node, pod.clone()) {
                    self.stranded.entry(node).or_default().insert(pod.uid().to_owned(), pod);
                }
            }
            Delta::Renew(node, pod) => {
                if let Some(pod) = self.snapshot.renew_pod(&node, pod)
                    && let Some(pods) = self.stranded.get_mut(&node)
                {
                    pods.insert(pod.uid().to_owned(), pod);
                }
            }
            Delta::Remove(node, uid) => {
                if self.snapshot.remove_pod(&node, &uid).is_none()
                    && let Some(pods) = self.stranded.get_mut(&node)
                {
                    pods.remove(&uid);
                    if pods.is_empty() {
                        self.stranded.remove(&node);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::json;

    fn pods_on(cache: &Cache, name: &str) -> Vec<String> {
        let view = cache.cycle();
        let pods = view
            .named(name)
            .map(|n| n.pods.iter().map(|p| p.uid().to_owned()).collect());
        pods.unwrap_or_default()
    }

    #[test]
    fn an_assumed_pod_counts_until_it_is_confirmed_or_forgotten() {
        let cache = Cache::default();
        cache.set_node(node("n1", json!({}), json!({})));
        cache.assume(pod("a", json!({})), "n1");
        cache.assume(pod("b", json!({})), "n1");
        cache.set_pod(pod("b", json!({})), "n1");
        assert_eq!(cache.counts(), (2, 1));
        assert!(cache.forget("a"));
        assert!(!cache.forget("b"), "the API has confirmed it");
        assert_eq!(pods_on(&cache, "n1"), ["b"]);
    }

    #[test]
    fn pods_may_come_before_their_node_and_outlast_it() {
        let cache = Cache::default();
        cache.set_pod(pod("a", json!({})), "n1");
        assert!(pods_on(&cache, "n1").is_empty());
        cache.set_node(node("n1", json!({}), json!({})));
        assert_eq!(pods_on(&cache, "n1"), ["a"]);
        cache.remove_node("n1");
        cache.set_node(node("n1", json!({}), json!({})));
        assert_eq!(pods_on(&cache, "n1"), ["a"]);
        cache.remove_node("n1");
        cache.remove_pod("a");
        cache.set_node(node("n1", json!({}), json!({})));
        assert!(pods_on(&cache, "n1").is_empty());
    }

    #[test]
    fn what_happens_during_a_cycle_is_seen_by_the_next() {
        let cache = Cache::default();
        cache.set_node(node("n1", json!({}), json!({})));
        let during = cache.cycle();
        cache.set_pod(pod("a", json!({})), "n1");
        cache.set_node(node("n2", json!({}), json!({})));
        assert_eq!(during.len(), 1);
        assert!(during.named("n1").unwrap().pods.is_empty());
        drop(during);
        assert_eq!(pods_on(&cache, "n1"), ["a"]);
        assert_eq!(cache.cycle().len(), 2);
    }

    #[test]
    fn a_pod_that_moves_leaves_its_old_node() {
        let cache = Cache::default();
        cache.set_node(node("n1", json!({}), json!({})));
        cache.set_node(node("n2", json!({}), json!({})));
        cache.assume(pod("a", json!({})), "n1");
        cache.set_pod(pod("a", json!({})), "n2");
        assert!(pods_on(&cache, "n1").is_empty());
        assert_eq!(pods_on(&cache, "n2"), ["a"]);
    }
}
