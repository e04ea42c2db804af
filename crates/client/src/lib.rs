//! A client of any Kubernetes API server: over HTTP(S), or in process without HTTP, TLS and JSON.
//!
//! * [`Client`]: a connection and an identity; cheap to clone. [`Client::connect`] takes a [`Config`] (kubeconfig, service
//!   account...), [`Client::in_process`] a [`Service`](coracle_api::service::Service). Nothing that holds a client can
//!   tell which it is.
//! * [`Api<K>`]: the objects of one kind, in one namespace or in all: get, list, watch, create, update, patch, delete.
//!   `K` is any type of `k8s_openapi`, or [`DynamicObject`] or [`PartialObject`] with an [`ApiResource`] told at run time.
//! * [`Error`]: what can go wrong, once.
//! * [`EventRecorder`](event::EventRecorder) tells people what a component did; [`LeaderElector`](leader::LeaderElector)
//!   lets one of several replicas work; [`Access`](access::Access) finds out who calls it and whether it may.
//!
//! Objects come as `Arc<K>`: they are shared with every other reader in the process and never changed in place. To
//! change one, clone it, or better patch it:
//!
//! ```no_run
//! use coracle_client::{Client, Config, ListOptions, Patch};
//! use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
//!
//! # async fn example() -> Result<(), coracle_client::Error> {
//! let client = Client::connect(Config::infer()?, coracle_clock::Clock::system())?;
//!
//! let options = ListOptions { label_selector: "app=web".into(), ..ListOptions::default() };
//! for pod in client.all::<Pod>().list(&options).await?.items {
//!     println!("{}", pod.metadata.name.as_deref().unwrap_or_default());
//! }
//!
//! let web = client.namespaced::<Deployment>("default");
//! match web.patch("web", Patch::Merge(serde_json::json!({"spec": {"replicas": 3}}))).await {
//!     Err(error) if error.is_not_found() => println!("there is no deployment web"),
//!     other => println!("generation {:?}", other?.metadata.generation),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! To follow objects as they change use an informer (`coracle_informer`) instead of [`Api::watch`]: it lists again when
//! it must and shares one cache. Start reading at [`client`] and [`api`].

pub mod access;
pub mod api;
pub mod client;
pub mod config;
mod custom;
pub mod discovery;
mod error;
pub mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod http;
mod kind;
pub mod leader;
pub mod pod;
pub mod rate;

pub use api::{Api, List, Patch, WatchEvent};
pub use client::Client;
pub use config::{Config, ConfigError};
pub use coracle_api::service::{DeleteOptions, ListOptions, Propagation, VersionMatch, WriteOptions};
pub use error::{Error, gone_is_done};
pub use kind::{ApiResource, DynamicObject, Kind, ObjectKey, PartialObject, TypedKind, Whole};
