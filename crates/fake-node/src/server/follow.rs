//! Whoever follows a log waits here until something happens to the pod.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_informer::ObjectKey;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::Notify;

type Known = HashMap<ObjectKey<Pod>, (usize, Arc<Notify>)>;

/// By pod: how many follow it.
#[derive(Default)]
pub(crate) struct Followers(Mutex<Known>);

/// One who follows, until it is dropped.
pub(super) struct Follower {
    all: Arc<Followers>,
    key: ObjectKey<Pod>,
    changed: Arc<Notify>,
}

impl Followers {
    /// The pod has changed, or is gone.
    pub(crate) fn tell(&self, pod: &Pod) {
        let known = self.0.lock();
        if !known.is_empty()
            && let Some((_, changed)) = known.get(&ObjectKey::of(pod))
        {
            changed.notify_waiters();
        }
    }

    pub(super) fn join(self: &Arc<Self>, key: ObjectKey<Pod>) -> Follower {
        let mut known = self.0.lock();
        let (count, changed) = known.entry(key.clone()).or_default();
        *count += 1;
        Follower {
            all: self.clone(),
            changed: changed.clone(),
            key,
        }
    }
}

impl Follower {
    /// Waits until it is so, looking whenever the pod has changed.
    pub(super) async fn until(&self, so: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if so() {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut known = self.all.0.lock();
        if let Some((count, _)) = known.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                known.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_follower_looks_again_when_its_pod_changes_and_is_forgotten_afterwards() {
        let all = Arc::new(Followers::default());
        let pod: Pod =
            serde_json::from_value(serde_json::json!({"metadata": {"namespace": "a", "name": "b"}})).unwrap();
        let follower = all.join(ObjectKey::of(&pod));
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let waiting = tokio::spawn(async move { follower.until(|| seen.load(Ordering::Relaxed)).await });
        tokio::task::yield_now().await;
        all.tell(&pod);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        ended.store(true, Ordering::Relaxed);
        all.tell(&pod);
        waiting.await.unwrap();
        assert!(all.0.lock().is_empty());
    }
}
