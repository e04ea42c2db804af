//! One pod on this node: from its spec to running containers and back to a status. [`worker`] is the loop; everything it
//! decides is in the pure [`plan`] and [`status`], everything it does in the files named after it.

pub(crate) mod admission;
pub(crate) mod amount;
pub(crate) mod backoff;
pub(crate) mod context;
pub(crate) mod downward;
pub(crate) mod env;
mod env_file;
mod expansion;
pub(crate) mod files;
mod handler;
mod image;
pub(crate) mod kernel_support;
pub(crate) mod network;
pub(crate) mod plan;
mod probe;
mod resize;
pub(crate) mod resources;
#[cfg(test)]
pub(crate) mod scripted;
mod security;
pub(crate) mod start;
pub(crate) mod status;
mod termination;
pub(crate) mod users;
pub(crate) mod worker;

pub(crate) use status::container_id;
