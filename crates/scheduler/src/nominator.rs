//! Pods for which preemption has made room on a node, until they are placed: other pods of lower priority must leave it to
//! them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

/// Who is nominated where.
#[derive(Clone, Debug, Default)]
pub struct Nominations {
    /// By node.
    pods: HashMap<Arc<str>, Vec<PodInfo>>,
    /// By the pod's uid.
    nodes: HashMap<String, Arc<str>>,
}

impl Nominations {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    pub fn on(&self, node: &str) -> &[PodInfo] {
        self.pods.get(node).map_or(&[], Vec::as_slice)
    }

    pub fn node(&self, uid: &str) -> Option<&Arc<str>> {
        self.nodes.get(uid)
    }

    /// The numbers of the nodes that pods are nominated to, in order.
    pub fn numbers(&self, snapshot: &Snapshot) -> Vec<u32> {
        let mut out: Vec<u32> = self.pods.keys().filter_map(|node| snapshot.number(node)).collect();
        out.sort_unstable();
        out
    }

    fn remove(&mut self, uid: &str) {
        if let Some(node) = self.nodes.remove(uid)
            && let Some(pods) = self.pods.get_mut(&node)
        {
            pods.retain(|p| p.uid() != uid);
            if pods.is_empty() {
                self.pods.remove(&node);
            }
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
        current.nodes.insert(pod.uid().to_owned(), node.clone());
        current.pods.entry(node).or_default().push(pod);
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
}
