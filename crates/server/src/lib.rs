//! The API server: authentication, authorization, admission, the object road, watches, discovery.
//!
//! * [`ApiServer::start`] takes [`ServerOptions`] (a store above all) and gives a running server: its address, an
//!   administrator's kubeconfig, and the handle for in-process clients.
//! * [`ApiServer`] implements [`Service`](coracle_api::service::Service): the request path without HTTP. Both ways in
//!   take the same road: authorize, decode against the schema, admission, defaults, validation, store.
//!
//! Start reading at `registry.rs`, the road; `cache.rs` answers lists and watches from memory; `http.rs` is the front.
//! The server depends on the API's types and on the store, never on a client or a controller: what else there is in the
//! cluster speaks to it through a client.

mod admission;
mod authn;
mod authz;
mod bootstrap;
mod cache;
mod core;
mod custom;
mod dial;
mod discovery;
mod event_expiry;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod http;
mod limits;
mod metrics;
mod openapi;
mod options;
mod pki;
mod readiness;
mod registry;
mod server;
mod service_ip;
mod subresource;
mod usage;

pub use options::{
    AdmissionPlugins, Cidr, Limits, Network, PodSecurityConfiguration, PodSecurityDefaults, PodSecurityExemptions,
    RegisterMetrics, ServerOptions,
};
pub use pki::{Authority, Identity, Pair, PkiDir, PkiError, kubeconfig};
pub use readiness::Readiness;
pub use server::{ApiServer, Credentials, RunningServer, StartError};
