//! Who may speak to the agent: bearers of a client certificate of the cluster's authority, and of those the API server
//! and administrators.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
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

/// The subject of a verified client certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Caller {
    name: String,
    groups: Vec<String>,
}

impl Caller {
    pub(super) fn may_call(&self, allowed: &[String]) -> bool {
        self.groups.iter().any(|g| g == "system:masters") || allowed.contains(&self.name)
    }
}

/// Whose certificate the connection was opened with.
pub(super) fn caller(connection: &ServerConnection) -> Option<Caller> {
    let leaf = connection.peer_certificates()?.first()?;
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let subject = certificate.subject();
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    Some(Caller {
        name: subject.iter_common_name().find_map(text)?,
        groups: subject.iter_organization().filter_map(text).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_masters_and_named_users_may_call() {
        let caller = |name: &str, groups: &[&str]| Caller {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        };
        let allowed = ["apiserver".to_owned()];
        assert!(caller("admin", &["system:masters"]).may_call(&allowed));
        assert!(caller("apiserver", &[]).may_call(&allowed));
        assert!(!caller("system:node:a", &["system:nodes"]).may_call(&allowed));
    }
}
