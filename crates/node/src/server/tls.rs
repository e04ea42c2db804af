//! The agent's TLS: its serving certificate, and whom a client's certificate names. A client may come without one; then a
//! token has to say who it is.

use std::sync::Arc;

use k8s_openapi::api::authentication::v1::UserInfo;
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
        .allow_unauthenticated()
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

/// Whose certificate the connection was opened with.
pub(super) fn caller(connection: &ServerConnection) -> Option<UserInfo> {
    let leaf = connection.peer_certificates()?.first()?;
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let subject = certificate.subject();
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    let groups = subject.iter_organization().filter_map(text);
    Some(UserInfo {
        username: Some(subject.iter_common_name().find_map(text)?),
        groups: Some(groups.chain(["system:authenticated".to_owned()]).collect()),
        ..UserInfo::default()
    })
}
