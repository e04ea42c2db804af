//! The network of a pod's sandbox: the node attaches it, where the runtime has not.

use std::path::PathBuf;

use coracle_runtime::SandboxId;

use super::context::Context;

/// A sandbox's network, as far as the runtime has made it.
pub(crate) struct Network {
    pub(crate) netns: PathBuf,
    /// Where the runtime has attached it.
    pub(crate) addresses: Option<Vec<String>>,
}

/// Attaches the pod's network; host network pods have the node's addresses.
pub(super) async fn networked(
    cx: &Context,
    id: &SandboxId,
    host: bool,
    network: &Network,
) -> Result<Vec<String>, String> {
    match &network.addresses {
        _ if host => Ok(cx.node().host_ips.clone()),
        None => cx.network.attach(id.as_str(), &network.netns).await,
        Some(addresses) if addresses.is_empty() => Err(format!("sandbox {id} has no address")),
        Some(addresses) => Ok(addresses.clone()),
    }
}
