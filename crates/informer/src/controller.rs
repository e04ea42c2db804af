//! The harness of a controller: changes become keys in a queue, workers reconcile them.
//!
//! It owns the loop and its safety (deduplication, back-off, panics, shutdown, metrics); what a key means is the
//! controller's.

mod error;

use std::fmt::Debug;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Kind, ObjectKey, TypedKind};
use coracle_clock::Clock;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use error::Error;

use crate::indexer;
use crate::metrics::{ControllerMetrics, Metrics, panic_text};
use crate::shared_informer::{Change, SharedInformer};
use crate::work_queue::{Item, QueueOptions, WorkQueue};

/// What a reconcile wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something changes.
    Done,
    /// To be called again after a while, whether something changes or not.
    After(Duration),
}

/// A controller in the making: say what it watches, then [`run`](Self::run) it. `Q` is mostly an
/// [`ObjectKey`] of the kind that it reconciles.
#[must_use = "a controller does nothing until it is run"]
pub struct Controller<Q: Item> {
    name: &'static str,
    workers: usize,
    clock: Clock,
    queue: WorkQueue<Q>,
    metrics: Metrics,
    synced: Vec<BoxFuture<'static, ()>>,
    /// Take the handlers away again.
    detach: Vec<Box<dyn FnOnce() + Send>>,
}

impl<Q: Item + Debug> Controller<Q> {
    /// A controller with so many workers, each on a key of its own.
    pub fn new(name: &'static str, workers: usize, clock: Clock) -> Self {
        Self::with(name, workers, clock, QueueOptions::default())
    }

    /// The same, with another back-off than client-go's, or counted.
    pub fn with(name: &'static str, workers: usize, clock: Clock, options: QueueOptions) -> Self {
        Self {
            metrics: options.metrics.clone(),
            name,
            workers: workers.max(1),
            clock,
            queue: WorkQueue::with(name, clock, options),
            synced: Vec::new(),
            detach: Vec::new(),
        }
    }

    /// The queue, to add keys for other reasons than changes.
    pub fn queue(&self) -> WorkQueue<Q> {
        self.queue.clone()
    }

    /// Reconciles the keys that `map` gives for every object that changes: for an update, those of the old state and
    /// of the new one.
    pub fn watches<K: Kind, I: IntoIterator<Item = Q>>(
        self,
        informer: &SharedInformer<K>,
        map: impl Fn(&K) -> I + Send + Sync + 'static,
    ) -> Self {
        self.watches_changes(informer, move |change| {
            let old = change.old().map(|old| map(old));
            old.into_iter()
                .flatten()
                .chain(map(change.object()))
                .collect::<Vec<Q>>()
        })
    }

    /// Reconciles the keys that `map` gives for every change: for controllers that care what has changed.
    pub fn watches_changes<K: Kind, I: IntoIterator<Item = Q>>(
        mut self,
        informer: &SharedInformer<K>,
        map: impl Fn(&Change<K>) -> I + Send + Sync + 'static,
    ) -> Self {
        let queue = self.queue.clone();
        let handler = informer.add_handler(move |change| {
            for key in map(change) {
                queue.add(key);
            }
        });
        let (waiting, watched) = (informer.clone(), informer.clone());
        self.synced.push(Box::pin(async move { waiting.synced().await }));
        self.detach.push(Box::new(move || watched.remove_handler(handler)));
        self
    }

    /// Works until `shutdown`, and ends when the last reconcile has: waits for the caches, then calls `reconcile` for
    /// each key. One that fails is called again after a back-off, unless the error is [terminal](Error::terminal).
    pub async fn run<C, F, Fut>(self, context: C, reconcile: F, shutdown: CancellationToken)
    where
        C: Send + Sync + 'static,
        F: Fn(Arc<C>, Q) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Action, Error>> + Send + 'static,
    {
        let synced = futures::future::join_all(self.synced);
        if shutdown.run_until_cancelled(synced).await.is_some() {
            tracing::debug!(controller = self.name, "caches are filled");
            let worker = Arc::new(Worker {
                name: self.name,
                clock: self.clock,
                queue: self.queue.clone(),
                metrics: ControllerMetrics::new(&self.metrics, self.name),
                context: Arc::new(context),
                reconcile,
            });
            let mut workers = JoinSet::new();
            for _ in 0..self.workers {
                let worker = worker.clone();
                workers.spawn(async move { worker.run().await });
            }
            let stop = shutdown.clone();
            let queue = self.queue.clone();
            workers.spawn(async move {
                stop.cancelled().await;
                queue.abandon();
            });
            while workers.join_next().await.is_some() {}
        }
        self.queue.shut_down();
        for detach in self.detach {
            detach();
        }
    }
}

impl<K: TypedKind> Controller<ObjectKey<K>> {
    /// Reconciles an object of `K` whenever one that it manages (as controller, by ownerReferences) changes. Adds the
    /// index that [`Lister::controlled_by`](crate::Lister::controlled_by) reads.
    pub fn watches_owned<O: Kind>(self, informer: &SharedInformer<O>) -> Self {
        informer.add_index(indexer::CONTROLLER, indexer::by_controller);
        let owner = K::resource();
        self.watches(informer, move |object: &O| {
            let meta = object.meta();
            let namespace = match &meta.namespace {
                Some(namespace) if owner.namespaced => namespace.as_str(),
                _ => "",
            };
            let references = meta.owner_references.as_deref().unwrap_or_default();
            let managing = references.iter().find(|o| {
                let group = o.api_version.split_once('/').map_or("", |(group, _)| group);
                o.controller == Some(true) && o.kind == owner.kind && group == owner.group
            });
            managing.map(|o| ObjectKey::of_owner(namespace, o))
        })
    }
}

struct Worker<Q: Item, C, F> {
    name: &'static str,
    clock: Clock,
    queue: WorkQueue<Q>,
    metrics: ControllerMetrics,
    context: Arc<C>,
    reconcile: F,
}

impl<Q, C, F, Fut> Worker<Q, C, F>
where
    Q: Item + Debug,
    F: Fn(Arc<C>, Q) -> Fut,
    Fut: Future<Output = Result<Action, Error>>,
{
    async fn run(&self) {
        while let Some(key) = self.queue.get().await {
            self.metrics.active.inc();
            self.work(&key).await;
            self.metrics.active.dec();
            self.queue.done(&key);
        }
    }

    async fn work(&self, key: &Q) {
        let started = self.clock.instant();
        // The call itself may panic too, before there is a future.
        let work = async { (self.reconcile)(self.context.clone(), key.clone()).await };
        let result = AssertUnwindSafe(work).catch_unwind().await;
        let took = self.clock.instant().saturating_duration_since(started);
        self.metrics.time.observe(took.as_secs_f64());
        let controller = self.name;
        match result {
            Ok(Ok(Action::Done)) => {
                self.metrics.reconciled("success");
                self.queue.forget(key);
            }
            Ok(Ok(Action::After(delay))) => {
                self.metrics.reconciled("requeue_after");
                self.queue.forget(key);
                self.queue.add_after(key.clone(), delay);
            }
            Ok(Err(error)) if error.is_terminal() => {
                self.metrics.reconciled("terminal_error");
                self.queue.forget(key);
                tracing::error!(controller, ?key, %error, "a reconcile failed for good");
            }
            Ok(Err(error)) => {
                self.metrics.reconciled("error");
                self.queue.add_rate_limited(key.clone());
                let failures = self.queue.num_requeues(key);
                if error.is_conflict() {
                    tracing::debug!(controller, ?key, %error, "the object has changed meanwhile; trying again");
                } else {
                    tracing::error!(controller, ?key, %error, failures, "a reconcile failed; trying again");
                }
            }
            Err(panic) => {
                self.metrics.reconciled("panic");
                self.metrics.panics.inc();
                self.queue.add_rate_limited(key.clone());
                let panic = panic_text(&*panic);
                tracing::error!(controller, ?key, panic, "a reconcile panicked; trying again");
            }
        }
    }
}
