//! One informer per kind and process: whoever asks second gets the first one's.

use std::any::{Any, TypeId};
use std::sync::Arc;

use coracle_client::{ApiResource, Client, Kind, TypedKind};
use coracle_clock::Clock;
use futures::future::BoxFuture;
use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::shared_informer::SharedInformer;

/// Which objects of a kind an informer follows: all, by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct InformerOptions {
    /// Empty: all namespaces.
    pub namespace: String,
    pub label_selector: String,
    pub field_selector: String,
}

/// Makes and shares informers. Cheap to clone.
#[derive(Clone)]
pub struct InformerFactory {
    client: Client,
    clock: Clock,
    shutdown: CancellationToken,
    metrics: Metrics,
    informers: Arc<Mutex<IndexMap<Sought, Kept>>>,
}

/// What is followed, and as which type.
type Sought = (TypeId, ApiResource, InformerOptions);

struct Kept {
    /// A `SharedInformer<K>`, of the `K` whose `TypeId` it is found by.
    informer: Box<dyn Any + Send + Sync>,
    synced: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

impl InformerFactory {
    /// Its informers run until `shutdown`.
    pub fn new(client: Client, clock: Clock, shutdown: CancellationToken) -> Self {
        Self {
            client,
            clock,
            shutdown,
            metrics: Metrics::default(),
            informers: Arc::default(),
        }
    }

    /// The same, counted.
    pub fn metered(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The informer of all objects of `K`; it starts when it is first asked for.
    pub fn informer<K: TypedKind>(&self) -> SharedInformer<K> {
        self.dynamic(&K::resource(), InformerOptions::default())
    }

    /// The informer of some objects of `K`: of one namespace, or those that match selectors.
    pub fn informer_of<K: TypedKind>(&self, options: InformerOptions) -> SharedInformer<K> {
        self.dynamic(&K::resource(), options)
    }

    /// The informer of a resource known at run time, as [`DynamicObject`](coracle_client::DynamicObject) or
    /// [`PartialObject`](coracle_client::PartialObject). [`forget`](Self::forget) it when the kind goes.
    pub fn dynamic<K: Kind>(&self, resource: &ApiResource, options: InformerOptions) -> SharedInformer<K> {
        let sought = (TypeId::of::<K>(), resource.clone(), options.clone());
        let mut informers = self.informers.lock();
        if let Some(kept) = informers.get(&sought)
            && let Some(informer) = kept.informer.downcast_ref::<SharedInformer<K>>()
        {
            return informer.clone();
        }
        let api = self.client.dynamic::<K>(resource).within(&options.namespace);
        let informer = SharedInformer::start(api, &options, self.clock, &self.shutdown, &self.metrics);
        let waiting = informer.clone();
        let kept = Kept {
            informer: Box::new(informer.clone()),
            synced: Box::new(move || {
                let informer = waiting.clone();
                Box::pin(async move { informer.synced().await })
            }),
        };
        informers.insert(sought, kept);
        informer
    }

    /// Stops the informers of a resource as `K`: nobody may need them any more.
    pub fn forget<K: Kind>(&self, resource: &ApiResource) {
        self.informers.lock().retain(|(form, other, _), kept| {
            let gone = *form == TypeId::of::<K>() && other == resource;
            if gone && let Some(informer) = kept.informer.downcast_ref::<SharedInformer<K>>() {
                informer.stop();
            }
            !gone
        });
    }

    /// Waits until every informer that has been asked for so far has its first list or is stopped.
    pub async fn synced(&self) {
        let waits: Vec<_> = self.informers.lock().values().map(|kept| (kept.synced)()).collect();
        futures::future::join_all(waits).await;
    }
}
