//! Real containers on this host, as root: every test has a directory, cgroups and sandboxes of its own and leaves
//! nothing behind.

mod attach;
mod exec;
mod foreign;
mod image_build;
mod images;
mod isolation;
mod latency;
mod lifecycle;
mod node;
mod recovery;
mod registry;
mod resources;
