//! Making the certificate: subject, names and key as requested, usages as approved, signed by the CA. The encoding is
//! written out here because names must be kept as they are: a subject may have several organizations, which are groups.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_clock::Timestamp;
use jiff::SignedDuration;
use rcgen::{KeyPair, SigningKey};
use x509_parser::extensions::ParsedExtension;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificate_request::{AlternativeName, Requested};
use crate::keys::SigningPair;

/// Other machines' clocks may be behind.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// Lives shorter than this are not shortened by the backdating.
const SHORT: Duration = Duration::from_secs(8 * 3600);

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// A certificate as PEM.
pub(crate) fn certificate(
    authority: &SigningPair,
    requested: &Requested,
    usages: &[String],
    life: Duration,
    now: Timestamp,
) -> Result<String, String> {
    let (_, block) =
        parse_x509_pem(authority.certificate.as_bytes()).map_err(|e| format!("the CA certificate: {e}"))?;
    let (_, ca) = X509Certificate::from_der(&block.contents).map_err(|e| format!("the CA certificate: {e}"))?;
    let key = KeyPair::from_pem(&authority.key).map_err(|e| format!("the CA key: {e}"))?;
    let ca_ends = ca.validity().not_after.timestamp();
    if ca_ends <= now.as_second() {
        return Err(format!("the signer has expired: NotAfter={}", ca.validity().not_after));
    }
    let not_before = now.checked_sub(BACKDATE).map_err(|e| e.to_string())?;
    let from = if life < SHORT { now } else { not_before };
    let ends = from.checked_add(SignedDuration::try_from(life).map_err(|e| e.to_string())?);
    let not_after = ends.map_err(|e| e.to_string())?.as_second().min(ca_ends);
    let not_after = Timestamp::from_second(not_after).map_err(|e| e.to_string())?;
    let algorithm = algorithm(&key)?;
    let key_id = ca.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    let body = sequence([
        tlv(0xa0, &tlv(INTEGER, &[2])),
        tlv(INTEGER, &serial()),
        algorithm.clone(),
        ca.subject().as_raw().to_vec(),
        sequence([time(not_before), time(not_after)]),
        requested.subject.clone(),
        requested.public_key.clone(),
        tlv(0xa3, &sequence(extensions(requested, usages, key_id)?)),
    ]);
    let signature = key.sign(&body).map_err(|e| format!("the CA key: {e}"))?;
    let whole = sequence([body, algorithm, tlv(BIT_STRING, &[&[0], signature.as_slice()].concat())]);
    Ok(pem("CERTIFICATE", &whole))
}

/// Tag, length, value.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let from = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1);
        out.push(0x80 | (bytes.len() - from) as u8);
        out.extend(&bytes[from..]);
    }
    out.extend(value);
    out
}

fn sequence(parts: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    tlv(SEQUENCE, &parts.into_iter().flatten().collect::<Vec<u8>>())
}

fn oid(arcs: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    let first = arcs.first().copied().unwrap_or_default() * 40 + arcs.get(1).copied().unwrap_or_default();
    for arc in std::iter::once(first).chain(arcs.iter().skip(2).copied()) {
        let groups = (1..5).rev().filter(|n| arc >> (7 * n) > 0);
        out.extend(groups.map(|n| 0x80 | ((arc >> (7 * n)) & 0x7f) as u8));
        out.push((arc & 0x7f) as u8);
    }
    tlv(OBJECT_IDENTIFIER, &out)
}

/// Years from 2050 on have four digits.
fn time(at: Timestamp) -> Vec<u8> {
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    if (1950..2050).contains(&at.year()) {
        tlv(0x17, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        tlv(0x18, at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

/// 127 random bits: positive, and never again the same.
fn serial() -> Vec<u8> {
    let mut bytes: [u8; 16] = rand::random();
    // No leading zero byte, which the encoding forbids.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    bytes.to_vec()
}

fn algorithm(key: &KeyPair) -> Result<Vec<u8>, String> {
    let own = key.algorithm();
    let plain = |arcs: &[u32]| Ok(sequence([oid(arcs)]));
    if own == &rcgen::PKCS_ECDSA_P256_SHA256 {
        plain(&[1, 2, 840, 10045, 4, 3, 2])
    } else if own == &rcgen::PKCS_ECDSA_P384_SHA384 {
        plain(&[1, 2, 840, 10045, 4, 3, 3])
    } else if own == &rcgen::PKCS_ED25519 {
        plain(&[1, 3, 101, 112])
    } else if own == &rcgen::PKCS_RSA_SHA256 {
        Ok(sequence([oid(&[1, 2, 840, 113_549, 1, 1, 11]), tlv(0x05, &[])]))
    } else {
        Err(format!(
            "the CA key is of a kind that this signer does not know: {own:?}"
        ))
    }
}

fn extension(arcs: &[u32], critical: bool, value: Vec<u8>) -> Vec<u8> {
    let mut parts = vec![oid(arcs)];
    if critical {
        parts.push(tlv(0x01, &[0xff]));
    }
    parts.push(tlv(OCTET_STRING, &value));
    sequence(parts)
}

fn extensions(requested: &Requested, usages: &[String], ca_key_id: Option<Vec<u8>>) -> Result<Vec<Vec<u8>>, String> {
    let mut bits = 0u16;
    let mut purposes: Vec<Vec<u8>> = Vec::new();
    for usage in usages {
        match meaning(usage).ok_or_else(|| format!("unrecognized usage {usage:?}"))? {
            Usage::Bit(bit) => bits |= 0x8000 >> bit,
            Usage::Purpose(arcs) => {
                let purpose = oid(arcs);
                if !purposes.contains(&purpose) {
                    purposes.push(purpose);
                }
            }
        }
    }
    let mut out = Vec::new();
    if bits != 0 {
        let bytes = bits.to_be_bytes();
        let used = if bytes[1] == 0 { 1 } else { 2 };
        let unused = bits.trailing_zeros() as u8 % 8;
        let value = [&[unused], &bytes[..used]].concat();
        out.push(extension(&[2, 5, 29, 15], true, tlv(BIT_STRING, &value)));
    }
    if !purposes.is_empty() {
        out.push(extension(&[2, 5, 29, 37], false, sequence(purposes)));
    }
    out.push(extension(&[2, 5, 29, 19], true, sequence([])));
    if let Some(id) = ca_key_id {
        out.push(extension(&[2, 5, 29, 35], false, sequence([tlv(0x80, &id)])));
    }
    let names = requested.alternative_names.iter().map(|name| match name {
        AlternativeName::Email(name) => tlv(0x81, name.as_bytes()),
        AlternativeName::Dns(name) => tlv(0x82, name.as_bytes()),
        AlternativeName::Uri(name) => tlv(0x86, name.as_bytes()),
        AlternativeName::Ip(address) => tlv(0x87, address),
    });
    if !requested.alternative_names.is_empty() {
        // Where the subject says nothing, the names have to be understood.
        out.push(extension(&[2, 5, 29, 17], requested.subject_is_empty, sequence(names)));
    }
    Ok(out)
}

enum Usage {
    Bit(u32),
    Purpose(&'static [u32]),
}

/// What a usage of the API is in a certificate.
fn meaning(usage: &str) -> Option<Usage> {
    Some(match usage {
        "signing" | "digital signature" => Usage::Bit(0),
        "content commitment" => Usage::Bit(1),
        "key encipherment" => Usage::Bit(2),
        "data encipherment" => Usage::Bit(3),
        "key agreement" => Usage::Bit(4),
        "cert sign" => Usage::Bit(5),
        "crl sign" => Usage::Bit(6),
        "encipher only" => Usage::Bit(7),
        "decipher only" => Usage::Bit(8),
        "any" => Usage::Purpose(&[2, 5, 29, 37, 0]),
        "server auth" => Usage::Purpose(&[1, 3, 6, 1, 5, 5, 7, 3, 1]),
        "client auth" => Usage::Purpose(&[1, 3, 6, 1, 5, 5, 7, 3, 2]),
        "code signing" => Usage::Purpose(&[1, 3, 6, 1, 5, 5, 7, 3, 3]),
        "email protection" | "s/mime" => Usage::Purpose(&[1, 3, 6, 1, 5, 5, 7, 3, 4]),
        "ipsec end system" => Usage::Purpose(&[1, 3, 6, 1, 5, 5, 7, 3, 5]),
        "ipsec tunnel" => Usage::Purpose(&[1, 3, 6, 1, 5, 5, 7, 3, 6]),
        "ipsec user" => Usage::Purpose(&[1, 3, 6, 1, 5, 5, 7, 3, 7]),
        "timestamping" => Usage::Purpose(&[1, 3, 6, 1, 5, 5, 7, 3, 8]),
        "ocsp signing" => Usage::Purpose(&[1, 3, 6, 1, 5, 5, 7, 3, 9]),
        "microsoft sgc" => Usage::Purpose(&[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
        "netscape sgc" => Usage::Purpose(&[2, 16, 840, 1, 113_730, 4, 1]),
        _ => return None,
    })
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text
        .as_bytes()
        .chunks(64)
        .map(|l| String::from_utf8_lossy(l).into_owned());
    let lines: Vec<String> = lines.collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate_request::tests::{dns, request, usages};
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType};

    fn authority(key: &KeyPair, days: i64) -> SigningPair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let end = 1_767_225_600 + days * 86_400;
        params.not_after = x509_parser::time::ASN1Time::from_timestamp(end).unwrap().to_datetime();
        let certificate = params.self_signed(key).unwrap();
        SigningPair::new(certificate.pem(), key.serialize_pem())
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_certificate_says_what_was_asked_and_verifies_by_the_ca() {
        let names = vec![dns("n.example"), SanType::IpAddress([10, 0, 0, 1].into())];
        let pem_request = request("system:node:n", "system:nodes", names);
        let requested = Requested::parse(pem_request.as_bytes()).unwrap();
        let asked = usages(&["digital signature", "key encipherment", "server auth", "decipher only"]);
        for key in [
            KeyPair::generate().unwrap(),
            KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
            KeyPair::generate_for(&PKCS_ED25519).unwrap(),
        ] {
            let ca = authority(&key, 3650);
            let text = certificate(&ca, &requested, &asked, Duration::from_secs(86_400), now()).unwrap();
            let (_, block) = parse_x509_pem(text.as_bytes()).unwrap();
            let (rest, made) = X509Certificate::from_der(&block.contents).unwrap();
            assert!(rest.is_empty());
            let (_, ca_block) = parse_x509_pem(ca.certificate.as_bytes()).unwrap();
            let (_, ca) = X509Certificate::from_der(&ca_block.contents).unwrap();
            made.verify_signature(Some(ca.public_key())).unwrap();
            assert_eq!(made.issuer(), ca.subject());
            assert_eq!(made.subject().to_string(), "CN=system:node:n, O=system:nodes");
            assert!(!made.is_ca());
            let found = made.key_usage().unwrap().unwrap();
            assert!(found.critical && found.value.digital_signature() && found.value.key_encipherment());
            assert!(found.value.decipher_only() && !found.value.key_cert_sign());
            let purposes = made.extended_key_usage().unwrap().unwrap().value;
            assert!(purposes.server_auth && !purposes.client_auth);
            let alternatives = made.subject_alternative_name().unwrap().unwrap();
            assert!(!alternatives.critical);
            assert_eq!(alternatives.value.general_names.len(), 2);
            assert_eq!(made.validity().not_before.timestamp(), now().as_second() - 300);
            assert_eq!(made.validity().not_after.timestamp(), now().as_second() + 86_400 - 300);
        }
    }

    #[test]
    fn every_organization_of_the_subject_stays() {
        // Two organizations, encoded by hand: rcgen keeps only one.
        let name = |arc: u32, text: &str| {
            let value = sequence([oid(&[2, 5, 4, arc]), tlv(0x0c, text.as_bytes())]);
            tlv(0x31, &value)
        };
        let subject = sequence([name(10, "a"), name(10, "b"), name(3, "u")]);
        let mut requested = Requested::parse(request("u", "a", vec![]).as_bytes()).unwrap();
        requested.subject = subject;
        let ca = authority(&KeyPair::generate().unwrap(), 3650);
        let text = certificate(&ca, &requested, &usages(&["client auth"]), SHORT, now()).unwrap();
        let (_, block) = parse_x509_pem(text.as_bytes()).unwrap();
        let (_, made) = X509Certificate::from_der(&block.contents).unwrap();
        let groups: Vec<&str> = made
            .subject()
            .iter_organization()
            .map(|o| o.as_str().unwrap())
            .collect();
        assert_eq!(groups, ["a", "b"]);
    }

    #[test]
    fn a_short_life_is_given_whole_and_none_outlives_the_ca() {
        let requested = Requested::parse(request("u", "g", vec![]).as_bytes()).unwrap();
        let key = KeyPair::generate().unwrap();
        let ends = |days: i64, seconds: u64| {
            let ca = authority(&key, days);
            let life = Duration::from_secs(seconds);
            let text = certificate(&ca, &requested, &usages(&["client auth"]), life, now())?;
            let (_, block) = parse_x509_pem(text.as_bytes()).unwrap();
            let (_, made) = X509Certificate::from_der(&block.contents).unwrap();
            Ok::<i64, String>(made.validity().not_after.timestamp() - now().as_second())
        };
        assert_eq!(ends(10, 600), Ok(600));
        assert_eq!(ends(10, 86_400), Ok(86_400 - 300));
        assert_eq!(ends(1, 10 * 86_400), Ok(86_400));
        assert!(ends(-1, 600).unwrap_err().starts_with("the signer has expired"));
    }

    #[test]
    fn lengths_and_object_identifiers_are_encoded_as_der() {
        assert_eq!(tlv(4, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(tlv(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(oid(&[1, 2, 840, 113_549]), [6, 6, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]);
        assert_eq!(oid(&[2, 5, 29, 37, 0]), [6, 4, 0x55, 0x1d, 0x25, 0]);
        assert_eq!(time("2050-01-01T00:00:00Z".parse().unwrap())[0], 0x18);
    }
}
