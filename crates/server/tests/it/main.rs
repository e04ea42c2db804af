//! The server from outside: through HTTPS with a real client, and through the in-process way in.

// Clippy's exception for tests does not reach what tests share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission_defaults;
mod admission_nodes;
mod admission_pods;
mod admission_security;
mod convergence;
mod custom;
mod harness;
mod http;
mod identity;
mod many_watches;
mod odd;
mod odd_bodies;
mod operation;
mod read;
mod rights;
mod special;
mod watch;
mod write;
