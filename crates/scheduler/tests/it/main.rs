//! The scheduler against an independent model, as properties over random clusters, and against a real API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod framework;
mod generate;
mod model;
mod placement;
mod preemption;
mod queue;
mod reuse;
mod wakeups;
