//! Real containers on this host, as root: every test has a directory, cgroups and sandboxes of its own and leaves
//! nothing behind.

// Clippy's exception for tests does not reach what tests share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attach;
mod change;
mod containerd;
mod cri;
mod exec;
mod foreign;
mod image_build;
mod images;
mod isolation;
mod latency;
mod layers;
mod lifecycle;
mod node;
mod recovery;
mod registry;
mod resources;
mod user_namespace;
