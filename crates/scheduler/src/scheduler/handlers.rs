//! What the loop hears of: nodes and pods come into the cache or the queue, and wake pods that may fit now.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use coracle_informer::Change;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::{Shared, profile_of};
use crate::event::ClusterEvent;
use crate::shape::PodInfo;

fn node_name(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a pod on a node changed in what other pods look at.
fn matters(old: &PodInfo, new: &PodInfo) -> bool {
    old.is_terminating() != new.is_terminating()
        || (!Arc::ptr_eq(&old.shape, &new.shape)
            && (old.shape.labels() != new.shape.labels() || old.shape.requests != new.shape.requests))
}

impl Shared {
    pub(super) fn node_changed(&self, change: &Change<Node>) {
        let node = change.object();
        if change.is_deletion() {
            self.cache
                .remove_node(node.metadata.name.as_deref().unwrap_or_default());
            self.queue.wake(ClusterEvent::NodeGone(node.clone()));
            return;
        }
        self.cache.set_node(node.clone());
        let event = match change.old() {
            None => Some(ClusterEvent::NodeAdded(node.clone())),
            Some(old) => ClusterEvent::of_node(old, node),
        };
        if let Some(event) = event {
            self.queue.wake(event);
        }
    }

    pub(super) fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.object();
        let node = node_name(pod);
        if change.is_deletion() || is_finished(pod) {
            self.pod_gone(pod);
        } else if !node.is_empty() {
            self.pod_placed(pod, change.old(), node);
        } else if pod.metadata.deletion_timestamp.is_some() {
            self.pod_gone(pod);
        } else {
            self.pod_waits(pod, change.old());
        }
    }

    fn pod_gone(&self, pod: &Arc<Pod>) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.queue.remove(uid);
        self.waiting.reject(uid, "", "the pod is gone");
        let placed = self.cache.placed(uid);
        if placed.is_some() || self.nominator.current().node(uid).is_some() {
            let info = self.shapes.info(pod, placed.as_ref());
            self.cache.remove_pod(uid);
            self.nominator.remove(uid);
            self.queue.wake(ClusterEvent::PodGone(info));
        }
    }

    fn pod_placed(&self, pod: &Arc<Pod>, old: Option<&Arc<Pod>>, node: &str) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let before = self.cache.placed(uid).or_else(|| self.queue.find(uid));
        let info = self.shapes.info(pod, before.as_ref());
        self.note_namespaces(&info);
        self.queue.remove(uid);
        self.nominator.remove(uid);
        self.cache.set_pod(info.clone(), node);
        match old {
            Some(old) if !node_name(old).is_empty() => {
                let old = self.shapes.info(old, before.as_ref());
                if matters(&old, &info) {
                    self.queue.wake(ClusterEvent::PodChanged { old, new: info });
                }
            }
            _ => self.queue.wake(ClusterEvent::PodPlaced(info)),
        }
    }

    fn pod_waits(&self, pod: &Arc<Pod>, old: Option<&Arc<Pod>>) {
        let Some((_, profile)) = profile_of(&self.profiles, pod) else {
            return;
        };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if self.cache.is_placed(uid) {
            // Assumed: its binding is on its way.
            return;
        }
        let info = self.shapes.info(pod, self.queue.find(uid).as_ref());
        self.note_namespaces(&info);
        let nominated = |p: &Pod| {
            p.status
                .as_ref()
                .and_then(|s| s.nominated_node_name.clone())
                .unwrap_or_default()
        };
        match info.nominated_node() {
            Some(node) => self.nominator.nominate(info.clone(), node),
            // Taken back, rather than not written yet.
            None if old.is_some_and(|old| !nominated(old).is_empty()) => self.nominator.remove(uid),
            None => {}
        }
        let precedence = profile.precedence(&info);
        self.queue.set(info, precedence);
    }

    fn note_namespaces(&self, pod: &PodInfo) {
        if pod.shape.selects_namespaces() {
            self.namespaces_count.store(true, Ordering::Relaxed);
        }
    }
}
