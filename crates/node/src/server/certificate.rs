//! A serving certificate of the node's own making, for nodes that no authority has given one. It is made once and kept;
//! the API server knows it by its fingerprint, which the node publishes on its Node object.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use ring::digest;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Error;

const CERTIFICATE: &str = "kubelet.crt";
const KEY: &str = "kubelet.key";

/// A certificate and its key, PEM.
pub(super) struct Pair {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// The pair in the directory; made anew where there is none for this name and these addresses.
pub(super) fn own(dir: &Path, node: &str, addresses: &[IpAddr]) -> Result<Pair, Error> {
    let failed = |text: String| Error::Certificate(text);
    let read = |name: &str| fs::read(dir.join(name)).ok();
    if let (Some(certificate), Some(key)) = (read(CERTIFICATE), read(KEY))
        && names(&certificate, node, addresses)
    {
        return Ok(Pair { certificate, key });
    }
    let pair = make(node, addresses).map_err(|e| failed(e.to_string()))?;
    let write = || -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for (name, bytes) in [(KEY, &pair.key), (CERTIFICATE, &pair.certificate)] {
            let beside = dir.join(format!("{name}.tmp"));
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(bytes)?;
            fs::rename(&beside, dir.join(name))?;
        }
        Ok(())
    };
    write().map_err(|e| failed(format!("cannot be written to {}: {e}", dir.display())))?;
    Ok(pair)
}

fn make(node: &str, addresses: &[IpAddr]) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![node.to_owned()])?;
    params
        .subject_alt_names
        .extend(addresses.iter().map(|a| SanType::IpAddress(*a)));
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("system:node:{node}"));
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Without dates, as rcgen has it, it is good for ever: it is trusted for as long as the Node names it.
    Ok(Pair {
        certificate: params.self_signed(&key)?.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
    })
}

fn names(pem: &[u8], node: &str, addresses: &[IpAddr]) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem) else {
        return false;
    };
    let Ok((_, parsed)) = X509Certificate::from_der(&der) else {
        return false;
    };
    let Ok(Some(found)) = parsed.subject_alternative_name() else {
        return false;
    };
    let all = &found.value.general_names;
    let bytes = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    all.iter()
        .any(|n| matches!(n, GeneralName::DNSName(name) if *name == node))
        && addresses.iter().all(|a| {
            let wanted = bytes(a);
            all.iter()
                .any(|n| matches!(n, GeneralName::IPAddress(found) if *found == wanted.as_slice()))
        })
}

/// `sha256:` and the hash of the first certificate of a PEM file.
pub(super) fn fingerprint(pem: &[u8]) -> Result<String, Error> {
    let der = CertificateDer::from_pem_slice(pem).map_err(|e| Error::Certificate(e.to_string()))?;
    let hash = digest::digest(&digest::SHA256, &der);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_kept_for_as_long_as_it_names_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let address = [IpAddr::from([10, 0, 0, 1])];
        let print = |pair: &Pair| fingerprint(&pair.certificate).unwrap();
        let first = own(dir.path(), "n1", &address).unwrap();
        assert_eq!(print(&own(dir.path(), "n1", &address).unwrap()), print(&first));
        assert_ne!(print(&own(dir.path(), "n2", &address).unwrap()), print(&first));
        let other = own(dir.path(), "n2", &[IpAddr::from([10, 0, 0, 2])]).unwrap();
        assert_ne!(print(&other), print(&first));
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(dir.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
