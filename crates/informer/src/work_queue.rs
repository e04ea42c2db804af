//! A queue of keys to work on.
//!
//! Three layers, as in client-go:
//!
//! * the [FIFO](fifo): **stingy** (a key that waits is not added twice), **fair** (in the order added), and never given to
//!   two workers at once: a key that is added while it is being worked on comes back when that is [`done`](WorkQueue::done);
//! * [delaying](delaying): [`add_after`](WorkQueue::add_after) adds a key later; of several times the earliest counts;
//! * [rate-limited](rate_limiting): [`add_rate_limited`](WorkQueue::add_rate_limited) adds a key after a back-off that
//!   doubles with every failure of the key, until it is [forgotten](WorkQueue::forget).
//!
//! An idle queue has no task and no timer.

mod delaying;
mod fifo;
mod rate_limiting;

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Clock;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::metrics::{Metrics, QueueMetrics};
use delaying::Delaying;
use fifo::Fifo;
pub use rate_limiting::RateLimit;
use rate_limiting::RateLimiter;

/// What can be queued.
pub trait Item: Clone + Eq + Hash + Send + Sync + 'static {}

impl<T: Clone + Eq + Hash + Send + Sync + 'static> Item for T {}

/// How long failures wait, and where a queue is counted.
#[derive(Clone, Debug, Default)]
pub struct QueueOptions {
    pub rate_limit: RateLimit,
    pub metrics: Metrics,
}

/// A queue of keys. Cheap to clone.
pub struct WorkQueue<T: Item> {
    inner: Arc<Inner<T>>,
}

impl<T: Item> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

/// What workers are doing, for metrics.
pub(crate) trait Working: Send + Sync {
    /// The time spent on all keys being worked on, and on the one that takes longest.
    fn working(&self, now: coracle_clock::Instant) -> (Duration, Duration);
}

impl<T: Item> Working for Mutex<Fifo<T>> {
    fn working(&self, now: coracle_clock::Instant) -> (Duration, Duration) {
        self.lock()
            .working(now)
            .fold(Default::default(), |(sum, longest), spent| {
                (sum + spent, longest.max(spent))
            })
    }
}

struct Inner<T> {
    clock: Clock,
    fifo: Arc<Mutex<Fifo<T>>>,
    /// A key can be had, or never will be again.
    ready: Notify,
    /// The last key being worked on is done.
    idle: Notify,
    delaying: Mutex<Delaying<T>>,
    /// The next delayed key has become an earlier one.
    sooner: Notify,
    limiter: RateLimiter<T>,
    metrics: QueueMetrics,
}

impl<T: Item> WorkQueue<T> {
    /// A queue that is counted nowhere; `name` is its label in metrics.
    pub fn new(name: &str, clock: Clock) -> Self {
        Self::with(name, clock, QueueOptions::default())
    }

    pub fn with(name: &str, clock: Clock, options: QueueOptions) -> Self {
        let fifo = Arc::new(Mutex::new(Fifo::default()));
        let metrics = QueueMetrics::new(&options.metrics, name, clock, fifo.clone());
        Self {
            inner: Arc::new(Inner {
                clock,
                fifo,
                ready: Notify::new(),
                idle: Notify::new(),
                delaying: Mutex::new(Delaying::default()),
                sooner: Notify::new(),
                limiter: RateLimiter::new(clock, options.rate_limit),
                metrics,
            }),
        }
    }

    /// Adds a key, unless it waits already.
    pub fn add(&self, item: T) {
        self.inner.add(item);
    }

    /// Adds a key after a while.
    pub fn add_after(&self, item: T, delay: Duration) {
        if self.is_shutting_down() {
            return;
        }
        self.inner.metrics.retries.inc();
        if delay.is_zero() {
            return self.add(item);
        }
        let when = self.inner.clock.instant() + delay;
        let mut delaying = self.inner.delaying.lock();
        let sooner = delaying.add(item, when);
        if !delaying.running {
            delaying.running = true;
            tokio::spawn(Inner::release_delayed(self.inner.clone()));
        } else if sooner {
            self.inner.sooner.notify_one();
        }
    }

    /// Adds a key after a back-off that grows with each failure, until it is [forgotten](Self::forget).
    pub fn add_rate_limited(&self, item: T) {
        let delay = self.inner.limiter.when(&item);
        self.add_after(item, delay);
    }

    /// The key is well again: its next failure is a first one. Says nothing of whether it is [`done`](Self::done).
    pub fn forget(&self, item: &T) {
        self.inner.limiter.forget(item);
    }

    /// How often the key has failed.
    pub fn num_requeues(&self, item: &T) -> u32 {
        self.inner.limiter.num_requeues(item)
    }

    /// Waits for the next key; `None` when the queue is shut down and empty. The worker must say [`done`](Self::done).
    pub async fn get(&self) -> Option<T> {
        loop {
            let mut ready = std::pin::pin!(self.inner.ready.notified());
            ready.as_mut().enable();
            {
                let mut fifo = self.inner.fifo.lock();
                if let Some((item, waited)) = fifo.take(self.inner.clock.instant()) {
                    self.inner.metrics.depth.set(fifo.len() as i64);
                    self.inner.metrics.queue_duration.observe(waited.as_secs_f64());
                    return Some(item);
                }
                if fifo.shutting_down {
                    return None;
                }
            }
            ready.await;
        }
    }

    /// The worker has finished with the key, well or not.
    pub fn done(&self, item: &T) {
        let mut fifo = self.inner.fifo.lock();
        let now = self.inner.clock.instant();
        let Some(worked) = fifo.done(item, now) else { return };
        self.inner.metrics.work_duration.observe(worked.as_secs_f64());
        self.inner.metrics.depth.set(fifo.len() as i64);
        let idle = fifo.is_idle();
        drop(fifo);
        self.inner.ready.notify_one();
        if idle {
            self.inner.idle.notify_waiters();
        }
    }

    /// How many keys wait to be worked on.
    pub fn len(&self) -> usize {
        self.inner.fifo.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes no more keys; workers get what waits and then `None`.
    pub fn shut_down(&self) {
        self.inner.fifo.lock().shutting_down = true;
        self.inner.delaying.lock().clear();
        self.inner.sooner.notify_one();
        self.inner.ready.notify_waiters();
    }

    /// Shuts down and drops what waits: workers end when they are done with what they have.
    pub fn abandon(&self) {
        self.shut_down();
        self.inner.fifo.lock().clear();
        self.inner.metrics.depth.set(0);
        self.inner.idle.notify_waiters();
    }

    /// Shuts down and waits until every key that waited or is being worked on is done.
    pub async fn shut_down_with_drain(&self) {
        self.shut_down();
        loop {
            let mut idle = std::pin::pin!(self.inner.idle.notified());
            idle.as_mut().enable();
            if self.inner.fifo.lock().is_idle() {
                return;
            }
            idle.await;
        }
    }

    pub fn is_shutting_down(&self) -> bool {
        self.inner.fifo.lock().shutting_down
    }
}

impl<T: Item> Inner<T> {
    fn add(&self, item: T) {
        let mut fifo = self.fifo.lock();
        if fifo.shutting_down {
            return;
        }
        if !fifo.add(item, self.clock.instant()) {
            return;
        }
        self.metrics.adds.inc();
        self.metrics.depth.set(fifo.len() as i64);
        drop(fifo);
        self.ready.notify_one();
    }

    /// Adds delayed keys as their time comes; lives only while there are any.
    async fn release_delayed(self: Arc<Self>) {
        loop {
            let next = {
                let mut delaying = self.delaying.lock();
                for item in delaying.take_due(self.clock.instant()) {
                    self.add(item);
                }
                match delaying.next() {
                    Some(next) => next,
                    None => {
                        delaying.running = false;
                        return;
                    }
                }
            };
            tokio::select! {
                biased;
                () = self.clock.sleep_until(next) => {}
                () = self.sooner.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
