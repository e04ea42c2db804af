//! Controllers on the real API, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod autoscaling;
mod cronjob;
mod daemon_set;
mod deployment;
mod examples;
mod garbage_collector;
mod harness;
mod identities;
mod job;
mod metrics;
mod nodes;
mod policies;
mod replicaset;
mod services;
mod stateful_set;
mod volumes;
mod world;
