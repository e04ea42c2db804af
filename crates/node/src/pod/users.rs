//! Pods with users of their own (`hostUsers: false`): which of the host's ids each has. No two pods on the node share any.
//! Which ones there are to give is in [`UserIds`].

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use coracle_runtime::{PodRuntime, UserNamespace};
use parking_lot::Mutex;

use crate::user_ids::UserIds;

/// The ids of pods that are just being started; those that run tell theirs themselves.
#[derive(Default)]
pub(crate) struct Users {
    ids: UserIds,
    starting: Mutex<BTreeSet<u32>>,
    /// How many pods were to be started, and how many of them were not.
    tried: AtomicU64,
    failed: AtomicU64,
}

/// Ids that are kept for one pod until its sandbox is there.
pub(crate) struct Reserved<'a> {
    users: &'a Users,
    first: u32,
}

impl Users {
    pub(crate) fn new(ids: UserIds) -> Self {
        Self { ids, ..Self::default() }
    }

    /// A pod with users of its own is to be started.
    pub(crate) fn try_one(&self) {
        self.tried.fetch_add(1, Ordering::Relaxed);
    }

    /// It was not.
    pub(crate) fn fail_one(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Ids for the pod with this uid: the same ones each time, unless another pod has some of them.
    pub(crate) async fn reserve(&self, runtime: &dyn PodRuntime, uid: &str) -> Result<Reserved<'_>, String> {
        let running = runtime.sandboxes().await;
        let taken = running
            .iter()
            .filter(|sandbox| sandbox.config.pod_uid != uid)
            .filter_map(|sandbox| sandbox.config.user_namespace);
        let mut starting = self.starting.lock();
        let of_starting = starting.iter().map(|first| UserNamespace {
            host_id: *first,
            length: self.ids.per_pod,
        });
        let taken: Vec<UserNamespace> = taken.chain(of_starting).collect();
        let first = choose(uid, &self.ids, &taken).ok_or("every range of user ids on this node is in use")?;
        starting.insert(first);
        Ok(Reserved { users: self, first })
    }
}

impl Reserved<'_> {
    pub(crate) fn namespace(&self) -> UserNamespace {
        UserNamespace {
            host_id: self.first,
            length: self.users.ids.per_pod,
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.users.starting.lock().remove(&self.first);
    }
}

/// The first id of those that a pod is given. Pods that run may have more or fewer than are given now.
fn choose(uid: &str, ids: &UserIds, taken: &[UserNamespace]) -> Option<u32> {
    let hash = uid.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let blocks = ids.blocks();
    let is_free = |first: u64| {
        let behind = first + u64::from(ids.per_pod);
        let mut taken = taken.iter().map(|t| (u64::from(t.host_id), u64::from(t.length)));
        !taken.any(|(other, length)| first < other + length && other < behind)
    };
    (0..blocks)
        .map(|step| (u64::from(hash) + u64::from(step)) % u64::from(blocks))
        .map(|block| u64::from(ids.first) + block * u64::from(ids.per_pod))
        .find(|first| is_free(*first))
        .and_then(|first| u32::try_from(first).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(host_id: u32, length: u32) -> UserNamespace {
        UserNamespace { host_id, length }
    }

    /// concepts/workloads/pods/user-namespaces.
    #[test]
    fn no_two_pods_on_the_same_node_use_the_same_mapping() {
        let ids = UserIds::default();
        let first = choose("a", &ids, &[]).unwrap();
        assert_eq!(choose("a", &ids, &[]), Some(first));
        let second = choose("a", &ids, &[namespace(first, ids.per_pod)]).unwrap();
        assert_ne!(first, second);
        for uid in ["", "b", "3f0c1c1e-0000", "zzzz"] {
            let first = choose(uid, &ids, &[]).unwrap();
            assert!(first >= 65_536 && first.checked_add(ids.per_pod).is_some(), "{uid}");
        }
        let all = [namespace(0, u32::MAX)];
        assert_eq!(choose("a", &ids, &all), None);
    }

    #[test]
    fn running_containers_are_not_affected_by_another_id_count() {
        let ids = UserIds {
            first: 65_536,
            count: 4 * 131_072,
            per_pod: 131_072,
        };
        // Started with half as many ids each.
        let before: Vec<_> = [1, 2, 4, 7].map(|block| namespace(block * 65_536, 65_536)).into();
        let chosen = choose("a", &ids, &before);
        assert_eq!(chosen, Some(5 * 65_536), "the one range that none of them is in");
    }
}
