//! Controllers through the real API, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod autoscaling;
mod budgets;
mod nodes;
mod quotas;
mod services;
mod world;
