//! Fake nodes in a whole cluster: the real server, controllers and scheduler, mostly in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod endpoint;
mod harness;
mod nodes;
mod pods;
