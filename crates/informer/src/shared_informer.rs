//! One cache of a kind for the whole process, and everyone who wants to hear of its changes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use coracle_client::{Api, Kind, ObjectKey};
use coracle_clock::Clock;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::delta_fifo::DeltaFifo;
use crate::factory::InformerOptions;
use crate::indexer::{Indexer, Lister};
use crate::metrics::{Metrics, panic_text};
use crate::reflector::Reflector;

/// What a handler is told. The indexer holds the newest state already.
pub enum Change<K> {
    Added(Arc<K>),
    Updated {
        old: Arc<K>,
        new: Arc<K>,
    },
    Deleted {
        object: Arc<K>,
        /// The deletion itself was not seen: the object is as it was last known.
        final_state_unknown: bool,
    },
}

impl<K> Change<K> {
    pub(crate) fn vanished(object: Arc<K>) -> Self {
        Self::Deleted {
            object,
            final_state_unknown: true,
        }
    }

    /// The object in its newest state.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Deleted { object, .. } | Self::Updated { new: object, .. } => object,
        }
    }

    /// The object as it was before an update.
    pub fn old(&self) -> Option<&Arc<K>> {
        match self {
            Self::Updated { old, .. } => Some(old),
            _ => None,
        }
    }

    pub fn is_deletion(&self) -> bool {
        matches!(self, Self::Deleted { .. })
    }
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Added(object) => Self::Added(object.clone()),
            Self::Updated { old, new } => Self::Updated {
                old: old.clone(),
                new: new.clone(),
            },
            Self::Deleted {
                object,
                final_state_unknown,
            } => Self::Deleted {
                object: object.clone(),
                final_state_unknown: *final_state_unknown,
            },
        }
    }
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// Names a handler, to remove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerId(u64);

/// The objects of a kind, followed. Cheap to clone; it runs until its factory's shutdown, or until it is stopped.
pub struct SharedInformer<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for SharedInformer<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

struct Shared<K> {
    resource: String,
    indexer: Arc<Indexer<K>>,
    fifo: Arc<DeltaFifo<K>>,
    /// Held while changes are told, so that a handler that comes late misses none and hears none twice.
    handlers: Mutex<Handlers<K>>,
    /// Cancelled once the first list has been told: those who wait for it go on in the order they came.
    synced: CancellationToken,
    stop: CancellationToken,
    metrics: Metrics,
}

struct Handlers<K> {
    next: u64,
    all: Vec<(HandlerId, Handler<K>)>,
}

impl<K: Kind> SharedInformer<K> {
    /// Starts an informer that is shared with nobody else; mostly
    /// [`InformerFactory::informer`](crate::InformerFactory::informer) is what you want. Needs a tokio runtime.
    pub fn start(
        api: Api<K>,
        options: &InformerOptions,
        clock: Clock,
        shutdown: &CancellationToken,
        metrics: &Metrics,
    ) -> Self {
        let indexer = Arc::new(Indexer::new());
        let fifo = Arc::new(DeltaFifo::new(indexer.clone()));
        let shared = Arc::new(Shared {
            resource: api.resource().to_string(),
            indexer,
            fifo: fifo.clone(),
            handlers: Mutex::new(Handlers {
                next: 0,
                all: Vec::new(),
            }),
            synced: CancellationToken::new(),
            stop: shutdown.child_token(),
            metrics: metrics.clone(),
        });
        let reflector = Reflector::new(api, &options.label_selector, &options.field_selector, fifo, clock);
        let running = shared.clone();
        tokio::spawn(async move {
            let stop = running.stop.clone();
            tokio::join!(
                reflector.run(stop.clone()),
                stop.run_until_cancelled(running.tell_forever()),
            );
        });
        Self { shared }
    }

    /// Calls `handler` with every change from now on, one after the other, and first with an addition for each object
    /// that is there already. It must be quick (put a key into a queue) and must not add handlers itself.
    pub fn add_handler(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) -> HandlerId {
        let mut handlers = self.shared.handlers.lock();
        let handler: Handler<K> = Box::new(handler);
        for object in self.shared.indexer.list() {
            self.shared.call(&handler, &Change::Added(object));
        }
        let id = HandlerId(handlers.next);
        handlers.next += 1;
        handlers.all.push((id, handler));
        id
    }

    pub fn remove_handler(&self, id: HandlerId) {
        self.shared.handlers.lock().all.retain(|(other, _)| *other != id);
    }

    /// Adds an index to the cache, at any time; see [`Indexer::add_index`].
    pub fn add_index<V: IntoIterator<Item = String>>(
        &self,
        name: &'static str,
        function: impl Fn(&K) -> V + Send + Sync + 'static,
    ) {
        self.shared.indexer.add_index(name, function);
    }

    /// Has every change of the cache noted as it is made; see [`Indexer::observe`].
    pub fn observe(&self, note: impl Fn(&ObjectKey<K>, Option<&K>, Option<&K>) + Send + Sync + 'static) {
        self.shared.indexer.observe(note);
    }

    /// Reads the cache.
    pub fn lister(&self) -> Lister<K> {
        Lister::new(self.shared.indexer.clone())
    }

    /// Whether the cache holds the first list and every handler has been told of it.
    pub fn has_synced(&self) -> bool {
        self.shared.synced.is_cancelled()
    }

    /// Waits for [`has_synced`](Self::has_synced), or for the informer to be stopped.
    pub async fn synced(&self) {
        tokio::select! {
            biased;
            () = self.shared.synced.cancelled() => {}
            () = self.shared.stop.cancelled() => {}
        }
    }

    /// Tells every handler of every object again, as an update from itself to itself.
    pub fn resync(&self) {
        self.shared.fifo.resync();
    }

    /// Stops following; the cache stays as it is.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }
}

impl<K: Kind> Shared<K> {
    async fn tell_forever(&self) {
        loop {
            self.fifo.ready().await;
            // Others have their turn between objects.
            while self.tell_next() {
                tokio::task::coop::consume_budget().await;
            }
        }
    }

    /// Tells of one object; whether there was one.
    fn tell_next(&self) -> bool {
        let handlers = self.handlers.lock();
        let changes = self.fifo.pop();
        for change in changes.iter().flatten() {
            for (_, handler) in &handlers.all {
                self.call(handler, change);
            }
        }
        if !self.synced.is_cancelled() && self.fifo.has_synced() {
            self.synced.cancel();
        }
        changes.is_some()
    }

    /// A handler that panics must not end the others.
    fn call(&self, handler: &Handler<K>, change: &Change<K>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| handler(change))) {
            self.metrics.handler_panicked(&self.resource);
            let panic = panic_text(&*panic);
            let key = ObjectKey::of(change.object().as_ref());
            tracing::error!(resource = self.resource, %key, panic, "a handler panicked");
        }
    }
}
