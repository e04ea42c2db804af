//! Pods that Permit plugins hold back: assumed on their node, but not bound before each of those plugins has allowed it. Who
//! sets up a scheduler shares this with the plugins that allow pods.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_clock::{Clock, Instant};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::framework::Rejection;

/// The plugin that turned the pod down (empty: none did), and why.
pub(crate) type Refusal = (&'static str, Rejection);

/// A plugin that has not allowed the pod yet.
struct Pending {
    plugin: &'static str,
    limit: Duration,
    until: Instant,
}

struct Waiting {
    pending: Vec<Pending>,
    answer: oneshot::Sender<Result<(), Refusal>>,
}

/// See the [module](self).
#[derive(Default)]
pub struct WaitingPods {
    /// By uid.
    pods: Mutex<BTreeMap<String, Waiting>>,
}

impl WaitingPods {
    /// As far as this plugin is concerned the pod may be bound. `false`: it does not wait for that.
    pub fn allow(&self, uid: &str, plugin: &str) -> bool {
        let mut pods = self.pods.lock();
        let Some(waiting) = pods.get_mut(uid) else { return false };
        let before = waiting.pending.len();
        waiting.pending.retain(|p| p.plugin != plugin);
        let waited = waiting.pending.len() < before;
        if waiting.pending.is_empty()
            && let Some(waiting) = pods.remove(uid)
        {
            let _ = waiting.answer.send(Ok(()));
        }
        waited
    }

    /// The pod must not be bound; what may change the plugin's mind makes it be tried again. `false`: it does not wait.
    pub fn reject(&self, uid: &str, plugin: &'static str, why: &str) -> bool {
        let refusal = (plugin, Rejection::unresolvable_text(why));
        let waiting = self.pods.lock().remove(uid);
        waiting.is_some_and(|waiting| waiting.answer.send(Err(refusal)).is_ok())
    }

    /// The uids of the pods that wait.
    pub fn uids(&self) -> Vec<String> {
        self.pods.lock().keys().cloned().collect()
    }

    /// The plugins that the pod waits for.
    pub fn pending(&self, uid: &str) -> Vec<&'static str> {
        let pods = self.pods.lock();
        let pending = pods.get(uid).into_iter().flat_map(|w| &w.pending);
        pending.map(|p| p.plugin).collect()
    }

    /// None of the pods that wait may be bound.
    pub(crate) fn reject_all(&self, why: &str) {
        for (_, waiting) in std::mem::take(&mut *self.pods.lock()) {
            let _ = waiting.answer.send(Err(("", Rejection::unresolvable_text(why))));
        }
    }

    /// From now on the pod waits for these plugins, for each no longer than this; to be awaited by [`wait`](Self::wait).
    pub(crate) fn enter(
        &self,
        uid: &str,
        waits: Vec<(&'static str, Duration)>,
        clock: Clock,
    ) -> oneshot::Receiver<Result<(), Refusal>> {
        let (answer, receiver) = oneshot::channel();
        let now = clock.instant();
        let pending = waits.into_iter().map(|(plugin, limit)| Pending {
            plugin,
            limit,
            until: now + limit,
        });
        let waiting = Waiting {
            pending: pending.collect(),
            answer,
        };
        self.pods.lock().insert(uid.to_owned(), waiting);
        receiver
    }

    pub(crate) async fn wait(
        &self,
        uid: &str,
        mut answer: oneshot::Receiver<Result<(), Refusal>>,
        clock: Clock,
    ) -> Result<(), Refusal> {
        loop {
            // A plugin that allows the pod meanwhile is found out about when its time would have been up.
            let first = {
                let pods = self.pods.lock();
                let pending = pods.get(uid).into_iter().flat_map(|w| &w.pending);
                pending.map(|p| (p.until, p.plugin, p.limit)).min()
            };
            let answered = match first {
                None => Some((&mut answer).await),
                Some((until, ..)) => tokio::select! {
                    biased;
                    answered = &mut answer => Some(answered),
                    () = clock.sleep_until(until) => None,
                },
            };
            match (answered, first) {
                (Some(Ok(verdict)), _) => return verdict,
                (Some(Err(_)), _) => return Err(("", Rejection::unresolvable("the pod waits no longer"))),
                (None, Some((_, plugin, limit))) if self.pending(uid).contains(&plugin) => {
                    let why = format!("rejected due to timeout after waiting {limit:?} at plugin {plugin}");
                    self.reject(uid, plugin, &why);
                }
                (None, _) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_held_pod_goes_on_when_allowed_and_not_when_rejected_or_forgotten() {
        let (waiting, clock) = (WaitingPods::default(), Clock::system());
        let enter = || waiting.enter("a", vec![("One", LIMIT)], clock);
        let answer = enter();
        assert!(!waiting.allow("a", "Other"), "it does not wait for that one");
        assert!(waiting.allow("a", "One"));
        assert_eq!(waiting.wait("a", answer, clock).await, Ok(()));
        let answer = enter();
        assert_eq!(waiting.uids(), ["a"]);
        assert!(waiting.reject("a", "One", "no"));
        let (plugin, rejection) = waiting.wait("a", answer, clock).await.unwrap_err();
        assert_eq!((plugin, rejection.to_string()), ("One", "no".to_owned()));
        let answer = enter();
        let (plugin, rejection) = waiting.wait("a", answer, clock).await.unwrap_err();
        assert_eq!(plugin, "One");
        assert_eq!(
            rejection.to_string(),
            "rejected due to timeout after waiting 5s at plugin One"
        );
        assert!(!waiting.allow("a", "One") && waiting.uids().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn every_plugin_that_holds_a_pod_must_allow_it_each_in_its_time() {
        let (waiting, clock) = (WaitingPods::default(), Clock::system());
        let enter = || waiting.enter("a", vec![("Long", LIMIT * 2), ("Short", LIMIT)], clock);
        let answer = enter();
        assert!(waiting.allow("a", "Short"));
        assert_eq!(waiting.pending("a"), ["Long"]);
        let started = clock.instant();
        let (plugin, _) = waiting.wait("a", answer, clock).await.unwrap_err();
        assert_eq!((plugin, started.elapsed()), ("Long", LIMIT * 2));
        let answer = enter();
        let started = clock.instant();
        let (plugin, _) = waiting.wait("a", answer, clock).await.unwrap_err();
        assert_eq!(
            (plugin, started.elapsed()),
            ("Short", LIMIT),
            "the first whose time is up"
        );
        let answer = enter();
        assert!(waiting.allow("a", "Long") && waiting.allow("a", "Short"));
        assert_eq!(waiting.wait("a", answer, clock).await, Ok(()));
    }
}
