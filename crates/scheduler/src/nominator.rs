//! Pods for which preemption has made room on a node, until they are placed: other pods of lower priority must leave it to
//! them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

/// The pods expected on a node.
#[derive(Clone, Debug, Default)]
struct Expected {
    pods: SmallVec<[PodInfo; 1]>,
    version: u64,
}

/// Who is nominated where. Cloned while a cycle looks at it and something changes, so it holds nothing that is dear to clone.
#[derive(Clone, Debug, Default)]
pub struct Nominations {
    /// By node.
    expected: HashMap<Arc<str>, Expected>,
    /// By the pod's uid.
    nodes: HashMap<Arc<str>, Arc<str>>,
    versions: u64,
}

impl Nominations {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }

    pub fn on(&self, node: &str) -> &[PodInfo] {
        self.expected.get(node).map_or(&[], |e| &e.pods)
    }

    /// Another number whenever other pods than before are expected there; 0 if none are.
    pub fn version(&self, node: &str) -> u64 {
        self.expected.get(node).map_or(0, |e| e.version)
    }

    pub fn node(&self, uid: &str) -> Option<&Arc<str>> {
        self.nodes.get(uid)
    }

    /// The numbers of the nodes that pods are nominated to, in order, each with its [version](Self::version).
    pub fn numbers(&self, snapshot: &Snapshot) -> Vec<(u32, u64)> {
        let numbered = self.expected.iter();
        let numbered = numbered.filter_map(|(node, e)| Some((snapshot.number(node)?, e.version)));
        let mut out: Vec<(u32, u64)> = numbered.collect();
        out.sort_unstable();
        out
    }

    /// Changes who is expected on the node.
    fn change(&mut self, node: &Arc<str>, change: impl FnOnce(&mut SmallVec<[PodInfo; 1]>)) {
        self.versions += 1;
        let expected = self.expected.entry(node.clone()).or_default();
        expected.version = self.versions;
        change(&mut expected.pods);
        if expected.pods.is_empty() {
            self.expected.remove(node);
        }
    }

    fn remove(&mut self, uid: &str) {
        if let Some(node) = self.nodes.remove(uid) {
            self.change(&node, |pods| pods.retain(|p| p.uid() != uid));
        }
    }
}

/// See the [module](self).
#[derive(Default)]
pub struct Nominator {
    current: Mutex<Arc<Nominations>>,
}

impl Nominator {
    /// As they are now; they do not change under a cycle's hands.
    pub fn current(&self) -> Arc<Nominations> {
        self.current.lock().clone()
    }

    pub fn nominate(&self, pod: PodInfo, node: &str) {
        let mut current = self.current.lock();
        if let Some(before) = current.node(pod.uid())
            && before.as_ref() == node
            && current.on(node).iter().any(|p| Arc::ptr_eq(&p.pod, &pod.pod))
        {
            return;
        }
        let current = Arc::make_mut(&mut *current);
        current.remove(pod.uid());
        let node: Arc<str> = node.into();
        current.nodes.insert(pod.uid().into(), node.clone());
        current.change(&node, |pods| pods.push(pod));
    }

    pub fn remove(&self, uid: &str) {
        let mut current = self.current.lock();
        if current.node(uid).is_some() {
            Arc::make_mut(&mut *current).remove(uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    #[test]
    fn a_pod_is_nominated_to_one_node_at_a_time() {
        let nominator = Nominator::default();
        let before = nominator.current();
        nominator.nominate(pod("a", json!({})), "n1");
        nominator.nominate(pod("a", json!({})), "n2");
        assert!(before.is_empty(), "a cycle under way sees no change");
        let now = nominator.current();
        assert_eq!((now.on("n1").len(), now.on("n2").len()), (0, 1));
        nominator.remove("a");
        nominator.remove("a");
        assert!(nominator.current().is_empty());
    }

    #[test]
    fn a_nodes_version_tells_whether_others_are_expected_there_than_before() {
        let nominator = Nominator::default();
        let version = || nominator.current().version("n1");
        assert_eq!(version(), 0);
        nominator.nominate(pod("a", json!({})), "n1");
        let one = version();
        nominator.nominate(pod("x", json!({})), "n2");
        assert_eq!(version(), one, "what is expected elsewhere changes nothing");
        nominator.nominate(pod("b", json!({})), "n1");
        let two = version();
        nominator.remove("b");
        let again = version();
        assert!(one > 0 && two > one && again > two, "{one} {two} {again}");
        nominator.remove("a");
        assert_eq!(version(), 0);
        nominator.nominate(pod("a", json!({})), "n1");
        assert!(version() > again, "a version never comes back");
    }
}
