//! What a controller is made of, in client-go's words.
//!
//! ```text
//! API server ── Reflector ──> DeltaFifo ──> Indexer      (SharedInformer: one per kind and process)
//!                                └──> handlers ──> WorkQueue ──> reconcile(key)      (Controller)
//! ```
//!
//! * [`InformerFactory`] gives the one [`SharedInformer`] of a kind; it keeps every object of the kind in memory and tells
//!   handlers of each [`Change`]. A [`Lister`] reads it.
//! * [`WorkQueue`] holds keys to work on: each once, each with one worker at a time, again later after a failure.
//! * [`Controller`] joins both: changes become keys, and `reconcile(key)` makes the world as the object wants it.
//!
//! A reconcile gets a key and nothing else, reads from listers, writes by the client, and may run at any time, any number
//! of times. Objects in the cache are shared: never changed, always cloned or patched. A whole controller, which labels
//! every namespace with its own name:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use coracle_client::{Client, Patch};
//! use coracle_clock::Clock;
//! use coracle_informer::{Action, CancellationToken, Controller, Error, InformerFactory, Lister, ObjectKey};
//! use k8s_openapi::api::core::v1::Namespace;
//! use serde_json::json;
//!
//! struct Context {
//!     client: Client,
//!     namespaces: Lister<Namespace>,
//! }
//!
//! async fn reconcile(cx: Arc<Context>, key: ObjectKey<Namespace>) -> Result<Action, Error> {
//!     let Some(namespace) = cx.namespaces.get(&key) else { return Ok(Action::Done) };
//!     let labels = namespace.metadata.labels.as_ref();
//!     if labels.and_then(|l| l.get("name")).is_none_or(|name| **name != *key.name) {
//!         let patch = Patch::Merge(json!({"metadata": {"labels": {"name": &*key.name}}}));
//!         cx.client.all::<Namespace>().patch(&key.name, patch).await?;
//!     }
//!     Ok(Action::Done)
//! }
//!
//! async fn run(client: Client, clock: Clock, shutdown: CancellationToken) {
//!     let informers = InformerFactory::new(client.clone(), clock, shutdown.clone());
//!     let namespaces = informers.informer::<Namespace>();
//!     let context = Context { client, namespaces: namespaces.lister() };
//!     Controller::new("namespace-labels", 2, clock)
//!         .watches(&namespaces, |namespace| [ObjectKey::of(namespace)])
//!         .run(context, reconcile, shutdown)
//!         .await;
//! }
//! ```
//!
//! Everything takes its time from a [`Clock`](coracle_clock::Clock) and ends at a [`CancellationToken`]; nothing polls, so
//! that an idle controller costs nothing. Start reading at [`shared_informer`], [`work_queue`] and [`controller`].

mod backoff;
pub mod controller;
pub mod delta_fifo;
mod factory;
pub mod indexer;
pub mod metrics;
pub mod reflector;
pub mod shared_informer;
pub mod work_queue;

pub use coracle_client::{Kind, ObjectKey};
pub use tokio_util::sync::CancellationToken;

pub use controller::{Action, Controller, Error};
pub use delta_fifo::DeltaFifo;
pub use factory::{InformerFactory, InformerOptions};
pub use indexer::{Indexer, Lister};
pub use metrics::Metrics;
pub use reflector::Reflector;
pub use shared_informer::{Change, SharedInformer};
pub use work_queue::{QueueOptions, WorkQueue};
