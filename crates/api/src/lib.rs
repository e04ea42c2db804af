//! What a Kubernetes object is. Pure: no I/O and no clock.
//!
//! Three types carry the crate:
//!
//! * [`Resource`](resource::Resource), one row of the [`Registry`](resource::Registry): everything the system knows of
//!   a kind, declared once in one file of [`kinds`]. Custom resources are rows made at run time.
//! * [`Object`](object::Object), an object as decoded JSON, and [`StoredObject`](object::StoredObject), one revision of
//!   it as encoded bytes, immutable and shared.
//! * [`Service`](service::Service), what an API server does for a caller: the request path without HTTP.
//!
//! A write goes through [`schema`] (decode: types, unknown fields), [`patch`], [`strategy`] (defaults, preparation,
//! validation) and leaves as JSON or, through [`protobuf`], as the wire form. Start reading at [`resource`].

pub mod cel;
pub mod configuration;
pub mod duration;
pub mod field;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod kinds;
pub mod meta;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod placement;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod service;
pub mod status;
pub mod strategy;
mod x509;
