//! Certificates and requests for them, as far as the rules of the API look into them: the blocks of PEM, whether they
//! parse, and whether a request is signed with the key that it is for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

pub(crate) use self::key::{Curve, Key};

mod key;

/// One block of PEM.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block<'a> {
    pub kind: &'a str,
    pub has_headers: bool,
    pub bytes: Vec<u8>,
}

const BEGIN: &str = "-----BEGIN ";

/// The blocks of a text. What is between them, or looks like one and is none, is passed over.
pub(crate) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let starts_line = at == 0 || rest.as_bytes().get(at - 1) == Some(&b'\n');
        rest = rest.get(at + BEGIN.len()..).unwrap_or_default();
        if let Some((block, behind)) = starts_line.then(|| block(rest)).flatten() {
            found.push(block);
            rest = behind;
        }
    }
    found
}

/// The block whose kind the text begins with, and what is behind it.
fn block(text: &str) -> Option<(Block<'_>, &str)> {
    let (first, body) = text.split_once('\n')?;
    let kind = first.trim_end().strip_suffix("-----")?;
    let end = format!("-----END {kind}-----");
    let at = match body.strip_prefix(&end) {
        Some(_) => 0,
        None => body.find(&format!("\n{end}"))? + 1,
    };
    let (body, behind) = (body.get(..at)?, body.get(at + end.len()..)?);
    let mut has_headers = false;
    let mut encoded = String::with_capacity(body.len());
    for line in body.lines() {
        if encoded.is_empty() && line.contains(':') {
            has_headers = true;
        } else {
            encoded.extend(line.chars().filter(|c| !c.is_whitespace()));
        }
    }
    let bytes = STANDARD.decode(encoded).ok()?;
    let block = Block {
        kind,
        has_headers,
        bytes,
    };
    Some((block, behind))
}

/// Whether a request in PEM can be read, and was made by who has the key.
pub(crate) fn check_request(pem: &str) -> Result<(), String> {
    match blocks(pem).first() {
        Some(block) if block.kind == "CERTIFICATE REQUEST" => check_request_der(&block.bytes),
        _ => Err("PEM block type must be CERTIFICATE REQUEST".to_owned()),
    }
}

/// [`check_request`] of the bytes that PEM wraps.
pub(crate) fn check_request_der(der: &[u8]) -> Result<(), String> {
    let (behind, request) =
        X509CertificationRequest::from_der(der).map_err(|_| "x509: malformed certificate request".to_owned())?;
    if !behind.is_empty() {
        return Err("asn1: syntax error: trailing data".to_owned());
    }
    key::verify(&request)
}

/// What rules ask of a certificate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub is_authority: bool,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    /// The key it is for, as it is written.
    pub public_key: Vec<u8>,
    pub dns_names: Vec<String>,
    pub mail_addresses: Vec<String>,
}

/// A certificate, if these bytes are one and nothing else.
pub(crate) fn certificate(der: &[u8]) -> Option<Certificate> {
    let (behind, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    let mut found = Certificate {
        is_authority: certificate.is_ca(),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        public_key: certificate.public_key().raw.to_vec(),
        ..Certificate::default()
    };
    let others = certificate.subject_alternative_name().ok()?;
    for name in others.into_iter().flat_map(|others| &others.value.general_names) {
        match name {
            GeneralName::DNSName(name) => found.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(address) => found.mail_addresses.push((*address).to_owned()),
            _ => {}
        }
    }
    behind.is_empty().then_some(found)
}

/// The kind and size of the key that a request is for.
pub(crate) fn requested_key_kind(der: &[u8]) -> Option<Key> {
    let (_, request) = X509CertificationRequest::from_der(der).ok()?;
    Some(Key::of(&request.certification_request_info.subject_pki))
}

/// The key that a request is for, as it is written.
pub(crate) fn requested_key(der: &[u8]) -> Option<Vec<u8>> {
    let (_, request) = X509CertificationRequest::from_der(der).ok()?;
    Some(request.certification_request_info.subject_pki.raw.to_vec())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A request that names itself, in PEM.
    pub fn request() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    /// A certificate that has signed itself, of an authority or not, in PEM.
    pub fn certificate_pem(authority: bool) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
        if authority {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn blocks_are_found_among_other_text() {
        let text = "before\n-----BEGIN A-----\nAA==\n-----END A-----\nbetween -----BEGIN B-----\n-----BEGIN C-----\nx: y\n\n\
                    AAAA\n-----END C-----\n-----BEGIN D-----\n*\n-----END D-----\n-----BEGIN E-----\n-----END E-----";
        let found = blocks(text);
        let of = |kind, has_headers, bytes: &[u8]| Block {
            kind,
            has_headers,
            bytes: bytes.to_vec(),
        };
        assert_eq!(
            found,
            [of("A", false, &[0]), of("C", true, &[0, 0, 0]), of("E", false, &[])]
        );
    }

    #[test]
    fn a_request_is_signed_with_its_own_key() {
        let pem = request();
        assert_eq!(check_request(&pem), Ok(()));
        let mut der = blocks(&pem).remove(0).bytes;
        assert_eq!(check_request_der(&der), Ok(()));
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(
            check_request_der(&der),
            Err("x509: ECDSA verification failure".to_owned())
        );
        assert_eq!(
            check_request_der(&[0]),
            Err("x509: malformed certificate request".to_owned())
        );
        for other in ["", "nonsense", &certificate_pem(false)] {
            assert_eq!(
                check_request(other),
                Err("PEM block type must be CERTIFICATE REQUEST".to_owned())
            );
        }
    }

    /// What openssl makes.
    #[test]
    fn requests_of_every_kind_of_key_are_taken() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/certificates");
        let p521 = Key::Elliptic(Curve::P521);
        let insecure = "crypto/rsa: 512-bit keys are insecure (see https://go.dev/pkg/crypto/rsa#hdr-Minimum_key_size)";
        let unknown = "x509: unsupported elliptic curve";
        for (name, key, expected) in [
            ("00", Key::Elliptic(Curve::P256), Ok(())),
            ("02", Key::Ed25519, Ok(())),
            ("04", Key::Rsa { bits: 2048 }, Ok(())),
            ("05", p521, Ok(())),
            ("06", p521, Ok(())),
            ("10", p521, Ok(())),
            ("07", Key::Rsa { bits: 1024 }, Ok(())),
            ("08", Key::Rsa { bits: 1024 }, Ok(())),
            ("09", Key::Rsa { bits: 512 }, Err(insecure.to_owned())),
            ("11", Key::Elliptic(Curve::P224), Ok(())),
            ("12", Key::Elliptic(Curve::P224), Ok(())),
            ("13", Key::Elliptic(Curve::P256), Ok(())),
            ("14", Key::Elliptic(Curve::P256), Ok(())),
            ("15", Key::Elliptic(Curve::P384), Ok(())),
            ("16", Key::Elliptic(Curve::P384), Ok(())),
            ("17", p521, Ok(())),
            ("18", Key::Elliptic(Curve::Other), Err(unknown.to_owned())),
            ("19", Key::Elliptic(Curve::P224), Ok(())),
        ] {
            let pem = std::fs::read_to_string(format!("{seeds}/{name}")).unwrap();
            assert_eq!(check_request(&pem), expected, "{name}");
            let mut der = blocks(&pem).remove(0).bytes;
            assert_eq!(requested_key_kind(&der), Some(key), "{name}");
            // Something else was signed.
            let at = der.len() / 3;
            der[at] ^= 1;
            assert!(check_request_der(&der).is_err(), "{name}");
        }
    }

    #[test]
    fn a_signature_is_of_the_key_s_own_kind() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/certificates");
        let pem = std::fs::read_to_string(format!("{seeds}/02")).unwrap();
        let mut der = blocks(&pem).remove(0).bytes;
        // The name of the algorithm, where it is told the second time: X25519 in the place of Ed25519.
        let names: Vec<usize> = (0..der.len() - 3)
            .filter(|i| der[*i..i + 3] == [0x2b, 0x65, 0x70])
            .collect();
        der[names[1] + 2] = 0x6e;
        assert_eq!(
            check_request_der(&der),
            Err("x509: cannot verify signature: algorithm unimplemented".to_owned())
        );
        let pem = std::fs::read_to_string(format!("{seeds}/05")).unwrap();
        let mut der = blocks(&pem).remove(0).bytes;
        // ecdsa-with-SHA512, and in its place sha256WithRSAEncryption, which is one byte longer.
        let ecdsa = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
        let rsa = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
        let at = (0..der.len() - 10).find(|i| der[*i..i + 10] == ecdsa).unwrap();
        der.splice(at..at + 10, rsa);
        der[at - 1] += 1;
        let length = u16::from_be_bytes([der[2], der[3]]) + 1;
        der[2..4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(
            check_request_der(&der),
            Err(
                "x509: signature algorithm specifies an RSA public key, but have public key of type *ecdsa.PublicKey"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_certificate_tells_whether_it_is_an_authoritys() {
        for authority in [true, false] {
            let pem = certificate_pem(authority);
            let found = certificate(&blocks(&pem)[0].bytes).unwrap();
            assert_eq!(found.is_authority, authority);
        }
        assert_eq!(certificate(b"nonsense"), None);
    }
}
