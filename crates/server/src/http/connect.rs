//! Streams to and from nodes: logs, exec, attach, port-forward and proxies, handed through to the node's agent (or to
//! the pod or service itself, for their proxies). Bodies flow as they come; upgraded connections are tunnelled.

use std::sync::Arc;

use coracle_api::status::Status;

use super::{Answer, Inbound};
use crate::core::Core;
use crate::metrics::Labels;
use crate::pki::Pki;

/// How the server reaches nodes' agents.
pub(crate) struct NodeClient {
    pub tls: Arc<rustls::ClientConfig>,
}

impl NodeClient {
    pub fn new(pki: &Pki) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        for certificate in pki.ca.chain() {
            roots.add(certificate).map_err(|e| format!("the CA certificate cannot be used: {e}"))?;
        }
        let key = pki.kubelet_client.private_key().ok_or("the kubelet client key cannot be read")?;
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_client_auth_cert(pki.kubelet_client.chain(), key)
            .map_err(|e| format!("the kubelet client certificate cannot be used: {e}"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(config) })
    }
}

pub(crate) async fn serve(_core: &Arc<Core>, _inbound: Inbound, _labels: &Labels) -> Result<Answer, Status> {
    Err(Status::no_such_resource())
}
