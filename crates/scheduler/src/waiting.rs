//! Pods that a Permit plugin holds back: assumed on their node, but not bound before someone allows it.

use std::collections::HashMap;
use std::time::Duration;

use coracle_clock::Clock;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::framework::Rejection;

/// See the [module](self).
#[derive(Default)]
pub struct WaitingPods {
    /// By uid.
    pods: Mutex<HashMap<String, oneshot::Sender<Result<(), String>>>>,
}

impl WaitingPods {
    /// The pod may be bound. `false`: it does not wait.
    pub fn allow(&self, uid: &str) -> bool {
        self.answer(uid, Ok(()))
    }

    /// The pod must not be bound. `false`: it does not wait.
    pub fn reject(&self, uid: &str, why: &str) -> bool {
        self.answer(uid, Err(why.to_owned()))
    }

    /// None of the pods that wait may be bound.
    pub fn reject_all(&self, why: &str) {
        for (_, waiting) in self.pods.lock().drain() {
            let _ = waiting.send(Err(why.to_owned()));
        }
    }

    pub fn is_waiting(&self, uid: &str) -> bool {
        self.pods.lock().contains_key(uid)
    }

    fn answer(&self, uid: &str, answer: Result<(), String>) -> bool {
        let waiting = self.pods.lock().remove(uid);
        waiting.is_some_and(|sender| sender.send(answer).is_ok())
    }

    /// From now on the pod waits; to be awaited by [`wait`](Self::wait).
    pub(crate) fn enter(&self, uid: &str) -> oneshot::Receiver<Result<(), String>> {
        let (sender, receiver) = oneshot::channel();
        self.pods.lock().insert(uid.to_owned(), sender);
        receiver
    }

    pub(crate) async fn wait(
        &self,
        uid: &str,
        answer: oneshot::Receiver<Result<(), String>>,
        limit: Duration,
        clock: Clock,
    ) -> Result<(), Rejection> {
        let answer = clock.timeout(limit, answer).await;
        self.pods.lock().remove(uid);
        match answer {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(why))) => Err(Rejection::unresolvable_text(why)),
            Ok(Err(_)) => Err(Rejection::unresolvable("the pod waits no longer")),
            Err(_) => Err(Rejection::unresolvable("timed out waiting on permit")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_held_pod_goes_on_when_allowed_and_not_when_rejected_or_forgotten() {
        let (waiting, clock) = (WaitingPods::default(), Clock::system());
        let limit = Duration::from_secs(5);
        let answer = waiting.enter("a");
        assert!(waiting.allow("a"));
        assert_eq!(waiting.wait("a", answer, limit, clock).await, Ok(()));
        let answer = waiting.enter("a");
        assert!(waiting.reject("a", "no"));
        let rejected = waiting.wait("a", answer, limit, clock).await.unwrap_err();
        assert_eq!(rejected.to_string(), "no");
        let answer = waiting.enter("a");
        let rejected = waiting.wait("a", answer, limit, clock).await.unwrap_err();
        assert_eq!(rejected.to_string(), "timed out waiting on permit");
        assert!(!waiting.allow("a"));
    }
}
