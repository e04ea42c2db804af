//! The controllers of workloads with the real API server before them, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod collection;
mod daemon_set;
mod job;
mod late;
mod metrics;
mod namespace;
mod replicas;
mod stateful_set;
mod world;
