//! Which keys there are, and whether a request is signed with its own, in the words of Go's `crypto/x509`.

use ring::signature;
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::asn1_rs::{FromDer, Integer, Oid};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_MD5WITHRSAENC,
    OID_PKCS1_RSAENCRYPTION, OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SHA1_WITH_RSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519,
};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

const UNIMPLEMENTED: &str = "x509: cannot verify signature: algorithm unimplemented";
/// Bits of an RSA key.
const FEWEST: usize = 1024;
/// Bits from which on any hash goes.
const USUAL: usize = 2048;
/// Bytes of a number of P-521.
const P521_BYTES: usize = 66;

/// A public key, as far as rules tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Rsa { bits: usize },
    Elliptic(Curve),
    Ed25519,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
    Other,
}

impl Key {
    pub fn of(info: &SubjectPublicKeyInfo<'_>) -> Self {
        let kind = &info.algorithm.algorithm;
        if *kind == OID_SIG_ED25519 {
            Self::Ed25519
        } else if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
            let curve = info.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
            Self::Elliptic(match curve {
                Some(curve) if curve == OID_EC_P256 => Curve::P256,
                Some(curve) if curve == OID_NIST_EC_P384 => Curve::P384,
                Some(curve) if curve == OID_NIST_EC_P521 => Curve::P521,
                _ => Curve::Other,
            })
        } else if *kind == OID_PKCS1_RSAENCRYPTION {
            match info.parsed() {
                Ok(PublicKey::RSA(key)) => Self::Rsa {
                    bits: bits(key.modulus),
                },
                _ => Self::Other,
            }
        } else {
            Self::Other
        }
    }

    /// What signatures by such a key are called, and what Go calls its type.
    fn names(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Rsa { .. } => Some(("RSA", "*rsa.PublicKey")),
            Self::Elliptic(_) => Some(("ECDSA", "*ecdsa.PublicKey")),
            Self::Ed25519 => Some(("Ed25519", "ed25519.PublicKey")),
            Self::Other => None,
        }
    }
}

/// How long a number is, of bytes that begin with its highest.
fn bits(number: &[u8]) -> usize {
    let mut bytes = number.iter().skip_while(|b| **b == 0);
    let first = bytes.next().map_or(0, |b| 8 - b.leading_zeros() as usize);
    first + 8 * bytes.count()
}

/// By which kind of key an algorithm signs.
fn signer(algorithm: &Oid<'_>) -> Option<&'static str> {
    let rsa = [
        OID_PKCS1_SHA1WITHRSA,
        OID_SHA1_WITH_RSA,
        OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA,
        OID_PKCS1_SHA512WITHRSA,
        OID_PKCS1_RSASSAPSS,
    ];
    let ecdsa = [
        OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384,
        OID_SIG_ECDSA_WITH_SHA512,
    ];
    if rsa.contains(algorithm) {
        Some("RSA")
    } else if ecdsa.contains(algorithm) {
        Some("ECDSA")
    } else {
        (*algorithm == OID_SIG_ED25519).then_some("Ed25519")
    }
}

/// Whether a request was made by who has the key that it is for.
pub(super) fn verify(request: &X509CertificationRequest<'_>) -> Result<(), String> {
    let info = &request.certification_request_info.subject_pki;
    let algorithm = &request.signature_algorithm.algorithm;
    if *algorithm == OID_PKCS1_MD5WITHRSAENC {
        return Err("x509: cannot verify signature: insecure algorithm MD5-RSA".to_owned());
    }
    let key = Key::of(info);
    let (Some(by), Some((family, type_name))) = (signer(algorithm), key.names()) else {
        return Err(UNIMPLEMENTED.to_owned());
    };
    if by != family {
        return Err(format!(
            "x509: signature algorithm specifies an {by} public key, but have public key of type {type_name}"
        ));
    }
    let verified = match key {
        Key::Rsa { bits } if bits < FEWEST => {
            return Err(format!(
                "crypto/rsa: {bits}-bit keys are insecure (see https://go.dev/pkg/crypto/rsa#hdr-Minimum_key_size)"
            ));
        }
        Key::Rsa { bits } if bits < USUAL => short_rsa(request),
        Key::Elliptic(Curve::P521) => p521(request),
        _ => request.verify_signature(),
    };
    verified.map_err(|error| match (error, key) {
        (X509Error::SignatureUnsupportedAlgorithm, _) => UNIMPLEMENTED.to_owned(),
        (_, Key::Rsa { .. }) => "crypto/rsa: verification error".to_owned(),
        (_, Key::Elliptic(_)) => "x509: ECDSA verification failure".to_owned(),
        _ => "x509: Ed25519 verification failure".to_owned(),
    })
}

fn short_rsa(request: &X509CertificationRequest<'_>) -> Result<(), X509Error> {
    let algorithm = &request.signature_algorithm.algorithm;
    let scheme = if *algorithm == OID_PKCS1_SHA256WITHRSA {
        &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY
    } else if *algorithm == OID_PKCS1_SHA512WITHRSA {
        &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY
    } else if *algorithm == OID_PKCS1_SHA1WITHRSA || *algorithm == OID_SHA1_WITH_RSA {
        &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY
    } else {
        return Err(X509Error::SignatureUnsupportedAlgorithm);
    };
    let info = &request.certification_request_info;
    signature::UnparsedPublicKey::new(scheme, &info.subject_pki.subject_public_key.data)
        .verify(info.raw, &request.signature_value.data)
        .map_err(|_| X509Error::SignatureVerificationError)
}

fn p521(request: &X509CertificationRequest<'_>) -> Result<(), X509Error> {
    use p521::ecdsa::signature::hazmat::PrehashVerifier;
    use p521::ecdsa::{Signature, VerifyingKey};
    let algorithm = &request.signature_algorithm.algorithm;
    let info = &request.certification_request_info;
    let hash = if *algorithm == OID_SIG_ECDSA_WITH_SHA256 {
        Sha256::digest(info.raw).to_vec()
    } else if *algorithm == OID_SIG_ECDSA_WITH_SHA384 {
        Sha384::digest(info.raw).to_vec()
    } else {
        Sha512::digest(info.raw).to_vec()
    };
    // A hash is a number, so zeros before it change nothing; the library refuses the shorter ones without them.
    let mut number = [0; P521_BYTES];
    for (to, from) in number.iter_mut().rev().zip(hash.iter().rev()) {
        *to = *from;
    }
    let failed = |_| X509Error::SignatureVerificationError;
    let key = VerifyingKey::from_sec1_bytes(&info.subject_pki.subject_public_key.data).map_err(failed)?;
    let numbers = two_numbers(&request.signature_value.data).ok_or(X509Error::SignatureVerificationError)?;
    let signature = Signature::from_slice(&numbers).map_err(failed)?;
    key.verify_prehash(&number, &signature).map_err(failed)
}

/// The numbers that a signature is, each as long as those of P-521.
fn two_numbers(der: &[u8]) -> Option<[u8; 2 * P521_BYTES]> {
    let (_, numbers) = <Vec<Integer<'_>>>::from_der(der).ok()?;
    let [r, s] = &numbers[..] else { return None };
    let mut both = [0; 2 * P521_BYTES];
    for (to, number) in both.chunks_exact_mut(P521_BYTES).zip([r, s]) {
        let number = number.as_ref();
        let zeros = number.iter().take_while(|b| **b == 0).count();
        let digits = number.get(zeros..)?;
        let start = P521_BYTES.checked_sub(digits.len())?;
        to.get_mut(start..)?.copy_from_slice(digits);
    }
    Some(both)
}
