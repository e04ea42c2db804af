//! The user that a verified client certificate names: its common name, and its organisations as groups.

use coracle_api::service::UserInfo;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

/// `None` if the certificate names nobody.
pub(crate) fn user(certificate: &CertificateDer<'_>) -> Option<UserInfo> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    if name.is_empty() {
        return None;
    }
    let mut groups: Vec<String> = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .map(str::to_owned)
        .collect();
    groups.push(super::AUTHENTICATED.into());
    let digest = Sha256::digest(certificate.as_ref());
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    let extra = [(
        "authentication.kubernetes.io/credential-id".to_owned(),
        vec![format!("X509SHA256={hex}")],
    )];
    Some(UserInfo {
        name,
        groups,
        extra: extra.into(),
        ..UserInfo::default()
    })
}
