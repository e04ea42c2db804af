//! Pods with users of their own (`hostUsers: false`): which of the host's ids each has. No two pods on the node share any.

use std::collections::BTreeSet;

use coracle_runtime::{PodRuntime, UserNamespace};
use parking_lot::Mutex;

/// Ids of one pod, as upstream has it.
const LENGTH: u32 = 65_536;
/// The first blocks belong to the host's own users and to those who run containers without root.
const FIRST: u32 = 64;
const BLOCKS: u32 = 0x7fff_0000 / LENGTH - FIRST;

/// The blocks of pods that are just being started; those that run tell theirs themselves.
#[derive(Default)]
pub(crate) struct Users {
    starting: Mutex<BTreeSet<u32>>,
}

/// A block that is kept for one pod until its sandbox is there.
pub(crate) struct Reserved<'a> {
    users: &'a Users,
    block: u32,
}

impl Users {
    /// A block for the pod with this uid: the same one each time, unless another pod has it.
    pub(crate) async fn reserve(&self, runtime: &dyn PodRuntime, uid: &str) -> Result<Reserved<'_>, String> {
        let running = runtime.sandboxes().await;
        let taken = running
            .iter()
            .filter(|sandbox| sandbox.config.pod_uid != uid)
            .filter_map(|sandbox| sandbox.config.user_namespace)
            .map(|users| users.host_id / LENGTH);
        let mut starting = self.starting.lock();
        let taken: BTreeSet<u32> = taken.chain(starting.iter().copied()).collect();
        let block = choose(uid, &taken).ok_or("every range of user ids on this node is in use")?;
        starting.insert(block);
        Ok(Reserved { users: self, block })
    }
}

impl Reserved<'_> {
    pub(crate) fn namespace(&self) -> UserNamespace {
        UserNamespace {
            host_id: self.block * LENGTH,
            length: LENGTH,
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.users.starting.lock().remove(&self.block);
    }
}

fn choose(uid: &str, taken: &BTreeSet<u32>) -> Option<u32> {
    let hash = uid.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (0..BLOCKS)
        .map(|step| FIRST + (hash % BLOCKS + step) % BLOCKS)
        .find(|block| !taken.contains(block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_have_blocks_of_their_own_beyond_the_hosts_users() {
        let first = choose("a", &BTreeSet::new()).unwrap();
        assert_eq!(choose("a", &BTreeSet::new()), Some(first));
        let second = choose("a", &BTreeSet::from([first])).unwrap();
        assert_ne!(first, second);
        for uid in ["", "b", "3f0c1c1e-0000", "zzzz"] {
            let block = choose(uid, &BTreeSet::new()).unwrap();
            assert!(block >= FIRST && (block + 1).checked_mul(LENGTH).is_some(), "{uid}");
        }
        assert_eq!(choose("a", &(0..0x8000).collect()), None);
    }
}
