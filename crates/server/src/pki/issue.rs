//! Making, reading and renewing certificates in a directory.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use coracle_clock::{Clock, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: i64 = 86_400;
const CA_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 365;

/// What goes wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot {action} {}: check the directory's owner and free space", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot make the certificate {what}")]
    Make { what: String, source: rcgen::Error },
    #[error("{} does not hold what it should: remove it, and it is made again", path.display())]
    Unreadable { path: PathBuf },
    #[error("a component has no certificate")]
    Missing,
}

/// Whom a client certificate names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Pair {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .filter_map(Result::ok)
            .collect()
    }

    pub fn private_key(&self) -> Option<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).ok()
    }
}

/// The certificate authority.
pub struct Authority {
    certificate: String,
    key: String,
}

/// What a certificate must say to be kept.
struct Wanted<'a> {
    what: &'a str,
    identity: &'a Identity,
    names: &'a [String],
    addresses: &'a [IpAddr],
    server: bool,
}

impl Authority {
    pub(super) fn open(dir: &Path, file: &str, name: &str, clock: Clock) -> Result<Self, PkiError> {
        if let Some(pair) = read_pair(dir, file)?
            && !is_near_end(&pair.certificate, clock.now())
        {
            return Ok(Self {
                certificate: pair.certificate,
                key: pair.key,
            });
        }
        // A key that signed certificates before goes on to be trusted in the renewed certificate.
        let old = read_pair(dir, file)?.and_then(|p| KeyPair::from_pem(&p.key).ok());
        let make = |source| PkiError::Make {
            what: name.into(),
            source,
        };
        let key = match old {
            Some(key) => key,
            None => KeyPair::generate().map_err(make)?,
        };
        let mut params = CertificateParams::new(Vec::new()).map_err(make)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        set_life(&mut params, clock.now(), CA_DAYS);
        let certificate = params.self_signed(&key).map_err(make)?;
        let pair = Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        };
        write_pair(dir, file, &pair)?;
        tracing::info!(file, "made a certificate authority");
        Ok(Self {
            certificate: pair.certificate,
            key: pair.key,
        })
    }

    /// The CA's certificate as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .filter_map(Result::ok)
            .collect()
    }

    /// The CA's key as PEM, for the controller that signs certificate requests.
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn client(&self, dir: &Path, file: &str, identity: &Identity, clock: Clock) -> Result<Pair, PkiError> {
        self.leaf(
            dir,
            file,
            &Wanted {
                what: file,
                identity,
                names: &[],
                addresses: &[],
                server: false,
            },
            clock,
        )
    }

    pub(super) fn serving(
        &self,
        dir: &Path,
        file: &str,
        name: &str,
        names: &[String],
        addresses: &[IpAddr],
        clock: Clock,
    ) -> Result<Pair, PkiError> {
        let identity = Identity {
            user: name.into(),
            groups: Vec::new(),
        };
        self.leaf(
            dir,
            file,
            &Wanted {
                what: file,
                identity: &identity,
                names,
                addresses,
                server: true,
            },
            clock,
        )
    }

    fn leaf(&self, dir: &Path, file: &str, wanted: &Wanted<'_>, clock: Clock) -> Result<Pair, PkiError> {
        if let Some(pair) = read_pair(dir, file)?
            && !is_near_end(&pair.certificate, clock.now())
            && says(&pair.certificate, wanted, &self.certificate)
        {
            return Ok(pair);
        }
        let pair = self.issue(wanted, clock)?;
        write_pair(dir, file, &pair)?;
        tracing::debug!(file, "made a certificate");
        Ok(pair)
    }

    fn issue(&self, wanted: &Wanted<'_>, clock: Clock) -> Result<Pair, PkiError> {
        let make = |source| PkiError::Make {
            what: wanted.what.into(),
            source,
        };
        let ca_key = KeyPair::from_pem(&self.key).map_err(make)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, ca_key).map_err(make)?;
        let key = KeyPair::generate().map_err(make)?;
        let mut params = CertificateParams::new(wanted.names.to_vec()).map_err(make)?;
        params
            .subject_alt_names
            .extend(wanted.addresses.iter().map(|a| SanType::IpAddress(*a)));
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, wanted.identity.user.as_str());
        for group in &wanted.identity.groups {
            params.distinguished_name.push(DnType::OrganizationName, group.as_str());
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![if wanted.server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, clock.now(), LEAF_DAYS);
        let certificate = params.signed_by(&key, &issuer).map_err(make)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn set_life(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // Clocks of other machines may be a little behind.
    params.not_before = at(now.as_second() - 3600);
    params.not_after = at(now.as_second() + days * DAY);
}

/// When a third of its life is left: then it is renewed.
pub(super) fn renewal_time(pem: &str) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    let (from, to) = (
        parsed.validity().not_before.timestamp(),
        parsed.validity().not_after.timestamp(),
    );
    Timestamp::from_second(to - (to - from) / 3 + 1).ok()
}

/// Whether a third of its life is left, or it cannot be read.
fn is_near_end(pem: &str, now: Timestamp) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return true;
    };
    let Ok((_, parsed)) = X509Certificate::from_der(&der) else {
        return true;
    };
    let (from, to) = (
        parsed.validity().not_before.timestamp(),
        parsed.validity().not_after.timestamp(),
    );
    let now = now.as_second();
    now < from || now > to - (to - from) / 3
}

/// Whether a certificate was signed by the CA and says what it should.
fn says(pem: &str, wanted: &Wanted<'_>, ca: &str) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return false;
    };
    let Ok((_, parsed)) = X509Certificate::from_der(&der) else {
        return false;
    };
    let Ok(ca) = CertificateDer::from_pem_slice(ca.as_bytes()) else {
        return false;
    };
    let Ok((_, ca)) = X509Certificate::from_der(&ca) else {
        return false;
    };
    // The key identifiers tell one CA key from another of the same name.
    let issued_by = || {
        use x509_parser::extensions::ParsedExtension;
        let authority = parsed.extensions().iter().find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0.to_vec()),
            _ => None,
        });
        let subject = ca.extensions().iter().find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        authority.is_some() && authority == subject
    };
    if parsed.issuer() != ca.subject() || !issued_by() {
        return false;
    }
    let subject = parsed.subject();
    let user = subject
        .iter_common_name()
        .next()
        .and_then(|n| n.as_str().ok())
        .unwrap_or_default();
    let groups: Vec<&str> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
    if user != wanted.identity.user || groups != wanted.identity.groups {
        return false;
    }
    let Ok(found) = parsed.subject_alternative_name() else {
        return false;
    };
    let general = found.map(|f| f.value.general_names.clone()).unwrap_or_default();
    let has_name = |name: &String| {
        general
            .iter()
            .any(|g| matches!(g, GeneralName::DNSName(n) if *n == name.as_str()))
    };
    let has_address = |address: &IpAddr| {
        let bytes = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        general
            .iter()
            .any(|g| matches!(g, GeneralName::IPAddress(b) if *b == bytes.as_slice()))
    };
    wanted.names.iter().all(has_name) && wanted.addresses.iter().all(has_address)
}

pub(super) fn make_dir(dir: &Path) -> Result<(), PkiError> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.map_err(|source| PkiError::Io {
        action: "make",
        path: dir.to_owned(),
        source,
    })
}

pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

fn read_pair(dir: &Path, file: &str) -> Result<Option<Pair>, PkiError> {
    let certificate = read(&dir.join(format!("{file}.crt")))?;
    let key = read(&dir.join(format!("{file}.key")))?;
    Ok(certificate.zip(key).map(|(certificate, key)| Pair { certificate, key }))
}

/// Writes beside the file and renames, so that a crash leaves the old one or the new one. The key goes first: a
/// certificate without its key would be taken for a good pair.
fn write_pair(dir: &Path, file: &str, pair: &Pair) -> Result<(), PkiError> {
    write(&dir.join(format!("{file}.key")), pair.key.as_bytes(), 0o600)?;
    write(&dir.join(format!("{file}.crt")), pair.certificate.as_bytes(), 0o644)
}

pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let beside = path.with_extension("tmp");
    let failed = |source| PkiError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(&beside)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    drop(file);
    fs::rename(&beside, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Clock {
        Clock::starting_at(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn certificates_are_reused_while_good_and_renewed_when_a_third_of_their_life_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let start = at("2026-01-01T00:00:00Z");
        let ca = Authority::open(dir.path(), "ca", "kubernetes-ca", start).unwrap();
        let identity = Identity {
            user: "u".into(),
            groups: vec!["g".into()],
        };
        let first = ca.client(dir.path(), "u", &identity, start).unwrap();
        assert_eq!(
            ca.client(dir.path(), "u", &identity, at("2026-06-01T00:00:00Z"))
                .unwrap()
                .key,
            first.key
        );
        assert_ne!(
            ca.client(dir.path(), "u", &identity, at("2026-11-01T00:00:00Z"))
                .unwrap()
                .key,
            first.key
        );
        let other = Identity {
            user: "v".into(),
            groups: Vec::new(),
        };
        let second = ca.client(dir.path(), "u", &other, start).unwrap();
        assert_ne!(second.key, first.key);
        let again = Authority::open(dir.path(), "ca", "kubernetes-ca", start).unwrap();
        assert_eq!(again.certificate(), ca.certificate());
    }

    #[tokio::test(start_paused = true)]
    async fn another_authority_of_the_same_name_makes_its_own_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let start = at("2026-01-01T00:00:00Z");
        let names = ["localhost".to_owned()];
        let ca = Authority::open(dir.path(), "ca", "kubernetes-ca", start).unwrap();
        let first = ca
            .serving(dir.path(), "s", "s", &names, &[[127, 0, 0, 1].into()], start)
            .unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        let ca = Authority::open(dir.path(), "ca", "kubernetes-ca", start).unwrap();
        let second = ca
            .serving(dir.path(), "s", "s", &names, &[[127, 0, 0, 1].into()], start)
            .unwrap();
        assert_ne!(first.certificate, second.certificate);
    }
}
