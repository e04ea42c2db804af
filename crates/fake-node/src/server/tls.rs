//! TLS with client certificates, and who may call.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection, crypto};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Serving;

pub(super) fn acceptor(serving: &Serving) -> Result<TlsAcceptor, String> {
    let chain = CertificateDer::pem_slice_iter(&serving.certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(&serving.key).map_err(|e| e.to_string())?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&serving.client_ca) {
        roots.add(root.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| e.to_string())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| e.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whether the verified certificate that the connection was opened with is one of those that may call.
pub(super) fn may_call(connection: &ServerConnection, allowed: &[String]) -> bool {
    let Some(leaf) = connection.peer_certificates().and_then(|all| all.first()) else {
        return false;
    };
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return false;
    };
    let subject = certificate.subject();
    let names: Vec<&str> = subject.iter_common_name().filter_map(|a| a.as_str().ok()).collect();
    let groups: Vec<&str> = subject.iter_organization().filter_map(|a| a.as_str().ok()).collect();
    is_allowed(&names, &groups, allowed)
}

fn is_allowed(names: &[&str], groups: &[&str], allowed: &[String]) -> bool {
    groups.contains(&"system:masters") || names.iter().any(|name| allowed.iter().any(|a| a == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_masters_and_named_users_may_call() {
        let allowed = ["kube-apiserver-kubelet-client".to_owned()];
        assert!(is_allowed(&["admin"], &["system:masters"], &allowed));
        assert!(is_allowed(&["kube-apiserver-kubelet-client"], &[], &allowed));
        assert!(!is_allowed(&["system:node:a"], &["system:nodes"], &allowed));
        assert!(!is_allowed(&[], &[], &allowed));
    }
}
