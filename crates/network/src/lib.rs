//! The pod network of one node: a bridge per cluster, an address and a veth pair per pod.
//!
//! [`PodNetwork`] is the public type: [`open`](PodNetwork::open) makes the bridge, [`attach`](PodNetwork::attach) gives
//! a pod's network namespace its `eth0`, [`detach`](PodNetwork::detach) takes it back, and
//! [`teardown`](PodNetwork::teardown) leaves the machine as it was found. [`free_cidr`] chooses addresses that nothing
//! on the machine uses. The crate knows no API types: pods are opaque ids and namespaces are paths.
//!
//! Start reading at [`pod_network`].

pub mod cidr;
mod firewall;
mod ipam;
mod link;
mod netns;
pub mod pod_network;

pub use cidr::Cidr;
pub use pod_network::{Attachment, NetworkOptions, PodNetwork, free_cidr};

use std::path::PathBuf;

/// What can go wrong with a pod's network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation}: {source}")]
    Netlink {
        operation: &'static str,
        source: rtnetlink::Error,
    },
    #[error("open a netlink socket: {0}; the node agent needs CAP_NET_ADMIN (run it as root)")]
    Socket(std::io::Error),
    #[error("enter the network namespace {path}: {source}")]
    Namespace { path: PathBuf, source: std::io::Error },
    #[error("{operation} {path}: {source}")]
    File {
        operation: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("no free address in {0}: every address of the node's pod range is in use")]
    Exhausted(Cidr),
    #[error("no free address range of the size of {0}: every candidate overlaps a route of this machine")]
    NoFreeRange(Cidr),
    #[error("the link {0} is gone")]
    NoLink(String),
    #[error("{0:?} is not an IPv4 range such as 10.42.0.0/24")]
    NotACidr(String),
}

impl Error {
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }
}
