//! The cluster's keys that some controllers sign with: the CA's, and that of service account tokens. They are handed in with
//! the [`Context`](crate::Context), by the server when the controllers run in its process or from files when they do not; a
//! controller whose key is absent does nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

/// As upstream's `--cluster-signing-duration`.
const YEAR: Duration = Duration::from_secs(8760 * 3600);

/// Everything that is known of the cluster's keys.
#[derive(Clone, Default)]
pub struct Keys {
    pub cluster_signing: Option<Arc<SigningPair>>,
    pub service_account: Option<Arc<TokenKey>>,
}

/// A certificate authority: certificate and key as PEM.
pub struct SigningPair {
    pub certificate: String,
    pub key: String,
    /// The longest life of a certificate, and that of one which asks for none.
    pub longest: Duration,
}

impl SigningPair {
    pub fn new(certificate: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            longest: YEAR,
        }
    }
}

impl fmt::Debug for SigningPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningPair(..)")
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the service account key is not PEM of a private key")]
    Pem,
    #[error("the service account key is neither a P-256 nor an RSA key in PKCS #8 or PKCS #1")]
    Kind,
}

enum Signer {
    Ecdsa(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// The key that signs service account tokens. It is replaced while controllers hold it.
pub struct TokenKey(RwLock<Arc<Signing>>);

struct Signing {
    signer: Signer,
    id: String,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.0.read().id)
    }
}

impl TokenKey {
    /// From a file's content.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Pem)?;
        match key {
            PrivateKeyDer::Pkcs8(key) => Self::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => {
                let key = RsaKeyPair::from_der(key.secret_pkcs1_der()).map_err(|_| KeyError::Kind)?;
                Ok(Self::new(Signer::Rsa(Box::new(key))))
            }
            _ => Err(KeyError::Kind),
        }
    }

    /// From PKCS #8.
    pub fn from_pkcs8(key: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        if let Ok(key) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random) {
            return Ok(Self::new(Signer::Ecdsa(Box::new(key))));
        }
        let key = RsaKeyPair::from_pkcs8(key).map_err(|_| KeyError::Kind)?;
        Ok(Self::new(Signer::Rsa(Box::new(key))))
    }

    fn new(signer: Signer) -> Self {
        let public = match &signer {
            Signer::Ecdsa(key) => key.public_key().as_ref(),
            Signer::Rsa(key) => key.public_key().as_ref(),
        };
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, public));
        Self(RwLock::new(Arc::new(Signing { signer, id })))
    }

    /// Signs with another key from now on.
    pub fn replace(&self, by: Self) {
        *self.0.write() = by.0.into_inner();
    }

    /// A JSON web token; `None` if the key fails.
    pub fn token(&self, claims: &Value) -> Option<String> {
        let Signing { signer, id } = &*self.0.read().clone();
        let algorithm = match signer {
            Signer::Ecdsa(_) => "ES256",
            Signer::Rsa(_) => "RS256",
        };
        let header = json!({"alg": algorithm, "kid": id});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let random = SystemRandom::new();
        let signature = match signer {
            Signer::Ecdsa(key) => key.sign(&random, signed.as_bytes()).ok()?.as_ref().to_vec(),
            Signer::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)
                    .ok()?;
                signature
            }
        };
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
