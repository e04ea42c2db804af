//! Who writes to a pod next. Writes go on beside the loop, and what was decided first must be written first: why a pod had no
//! node must not be told after it has got one, nor an older reason after a newer one.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// By the pod's uid: the last who asked for a turn, by number, and when they are done.
type Last = BTreeMap<String, (u64, oneshot::Receiver<()>)>;

#[derive(Default)]
struct State {
    last: Last,
    count: u64,
}

/// See the [module](self).
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<State>>);

/// A place in the line for one pod; it ends when this is dropped.
pub(super) struct Turn {
    turns: Turns,
    uid: String,
    number: u64,
    before: Option<oneshot::Receiver<()>>,
    _done: oneshot::Sender<()>,
}

impl Turns {
    /// After all who have asked for this pod before.
    pub fn take(&self, uid: &str) -> Turn {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.0.lock();
        state.count += 1;
        let number = state.count;
        let before = state.last.insert(uid.to_owned(), (number, receiver));
        Turn {
            turns: self.clone(),
            uid: uid.to_owned(),
            number,
            before: before.map(|(_, receiver)| receiver),
            _done: sender,
        }
    }
}

impl Turn {
    /// Waits until all before are done. Whether there was anyone.
    pub async fn come(&mut self) -> bool {
        match self.before.take() {
            Some(before) => {
                // Nobody sends: it is the end of the sender that counts.
                let _ = before.await;
                true
            }
            None => false,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.0.lock();
        if state
            .last
            .get(&self.uid)
            .is_some_and(|(number, _)| *number == self.number)
        {
            state.last.remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_the_order_in_which_they_were_taken_and_each_pod_has_its_own() {
        let turns = Turns::default();
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        // The later a turn was taken, the earlier its task is ready.
        for n in (0..3)
            .map(|n| (n, turns.take("a")))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            let (number, mut turn) = n;
            let written = written.clone();
            tasks.push(tokio::spawn(async move {
                let waited = turn.come().await;
                written.lock().push((number, waited));
            }));
        }
        let mut other = turns.take("b");
        assert!(!other.come().await);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*written.lock(), [(0, false), (1, true), (2, true)]);
        drop(other);
        assert!(turns.0.lock().last.is_empty(), "nothing is left of those that are over");
        drop(turns.take("a"));
        assert!(!turns.take("a").come().await);
    }
}
