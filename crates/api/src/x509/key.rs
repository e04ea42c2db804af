//! Which keys there are, and whether a request is signed with its own, in the words of Go's `crypto/x509`.

use ecdsa::elliptic_curve::array::ArraySize;
use ecdsa::elliptic_curve::array::typenum::Unsigned;
use ecdsa::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use ecdsa::elliptic_curve::{AffinePoint, CurveArithmetic, FieldBytesSize};
use ecdsa::signature::hazmat::PrehashVerifier;
use ecdsa::{EcdsaCurve, Signature, SignatureSize, VerifyingKey};
use p224::NistP224;
use p256::NistP256;
use p384::NistP384;
use p521::NistP521;
use ring::{digest, signature};
use x509_parser::asn1_rs::{FromDer, Integer, Oid, oid};
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
/// Older than what the registry of names has.
const CURVE_P224: Oid<'static> = oid!(1.3.132.0.33);
const ECDSA_WITH_SHA1: Oid<'static> = oid!(1.2.840.10045.4.1);

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
    P224,
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
                Some(curve) if curve == CURVE_P224 => Curve::P224,
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
    if rsa.contains(algorithm) {
        Some("RSA")
    } else if hash(algorithm).is_some() {
        Some("ECDSA")
    } else {
        (*algorithm == OID_SIG_ED25519).then_some("Ed25519")
    }
}

/// What an algorithm of elliptic curves hashes with. SHA-1 will do for a request, though not for a certificate.
fn hash(algorithm: &Oid<'_>) -> Option<&'static digest::Algorithm> {
    let known = [
        (ECDSA_WITH_SHA1, &digest::SHA1_FOR_LEGACY_USE_ONLY),
        (OID_SIG_ECDSA_WITH_SHA256, &digest::SHA256),
        (OID_SIG_ECDSA_WITH_SHA384, &digest::SHA384),
        (OID_SIG_ECDSA_WITH_SHA512, &digest::SHA512),
    ];
    known.iter().find(|(name, _)| name == algorithm).map(|(_, hash)| *hash)
}

/// Whether a request was made by who has the key that it is for.
pub(super) fn verify(request: &X509CertificationRequest<'_>) -> Result<(), String> {
    let info = &request.certification_request_info.subject_pki;
    let algorithm = &request.signature_algorithm.algorithm;
    let key = Key::of(info);
    if let Key::Elliptic(curve) = key {
        readable(curve, info)?;
    }
    if *algorithm == OID_PKCS1_MD5WITHRSAENC {
        return Err("x509: cannot verify signature: insecure algorithm MD5-RSA".to_owned());
    }
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
        Key::Elliptic(curve) => elliptic(curve, request),
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

/// Whether the key is a point of a known curve.
fn readable(curve: Curve, info: &SubjectPublicKeyInfo<'_>) -> Result<(), String> {
    let point = &info.subject_public_key.data;
    let is_point = match curve {
        Curve::P224 => point_of::<NistP224>(point).is_some(),
        Curve::P256 => point_of::<NistP256>(point).is_some(),
        Curve::P384 => point_of::<NistP384>(point).is_some(),
        Curve::P521 => point_of::<NistP521>(point).is_some(),
        Curve::Other if info.algorithm.parameters.as_ref().is_none_or(|p| p.as_oid().is_err()) => {
            return Err("x509: invalid ECDSA parameters".to_owned());
        }
        Curve::Other => return Err("x509: unsupported elliptic curve".to_owned()),
    };
    match is_point {
        true => Ok(()),
        false => Err("x509: failed to unmarshal elliptic curve point".to_owned()),
    }
}

fn elliptic(curve: Curve, request: &X509CertificationRequest<'_>) -> Result<(), X509Error> {
    let info = &request.certification_request_info;
    let hash = hash(&request.signature_algorithm.algorithm).ok_or(X509Error::SignatureUnsupportedAlgorithm)?;
    let hash = digest::digest(hash, info.raw);
    let (point, signature) = (&info.subject_pki.subject_public_key.data, &request.signature_value.data);
    let signed = match curve {
        Curve::P224 => signs::<NistP224>(point, hash.as_ref(), signature),
        Curve::P256 => signs::<NistP256>(point, hash.as_ref(), signature),
        Curve::P384 => signs::<NistP384>(point, hash.as_ref(), signature),
        Curve::P521 => signs::<NistP521>(point, hash.as_ref(), signature),
        Curve::Other => return Err(X509Error::SignatureUnsupportedAlgorithm),
    };
    signed.ok_or(X509Error::SignatureVerificationError)
}

/// The key that a point, written with both its numbers, is.
fn point_of<C>(bytes: &[u8]) -> Option<VerifyingKey<C>>
where
    C: EcdsaCurve + CurveArithmetic,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    const UNCOMPRESSED: u8 = 4;
    let bytes = Some(bytes).filter(|b| b.first() == Some(&UNCOMPRESSED))?;
    VerifyingKey::from_sec1_bytes(bytes).ok()
}

/// Something, if the signature is one of the hash with the key.
fn signs<C>(point: &[u8], hash: &[u8], signature: &[u8]) -> Option<()>
where
    C: EcdsaCurve + CurveArithmetic,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
    SignatureSize<C>: ArraySize,
{
    let key = point_of::<C>(point)?;
    let size = C::FieldBytesSize::USIZE;
    let signature = Signature::<C>::from_slice(&two_numbers(signature, size)?).ok()?;
    // A hash is a number, so zeros before it change nothing; the library refuses the shorter ones without them.
    let mut number = vec![0; size.saturating_sub(hash.len())];
    number.extend_from_slice(hash);
    key.verify_prehash(&number, &signature).ok()
}

/// The numbers that a signature is, each of so many bytes.
fn two_numbers(der: &[u8], size: usize) -> Option<Vec<u8>> {
    let (behind, numbers) = <Vec<Integer<'_>>>::from_der(der).ok()?;
    let ([r, s], []) = (&numbers[..], behind) else {
        return None;
    };
    let mut both = vec![0; 2 * size];
    for (to, number) in both.chunks_exact_mut(size).zip([r, s]) {
        let number = number.as_ref();
        let is_negative = number.first().is_some_and(|b| b & 0x80 != 0);
        let zeros = number.iter().take_while(|b| **b == 0).count();
        let digits = number.get(zeros..).filter(|_| !is_negative)?;
        let start = size.checked_sub(digits.len())?;
        to.get_mut(start..)?.copy_from_slice(digits);
    }
    Some(both)
}
