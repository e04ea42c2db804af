//! The keys of tokens in use: signing, verifying, and the public ones as a JSON web key set.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use coracle_api::status::Status;
use ring::rand::SystemRandom;
use ring::signature::{self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::TokenError;
use crate::pki::SigningKeys;

/// The uncompressed point at the end of a P-256 key's SubjectPublicKeyInfo: 4, x, y.
const POINT_BYTES: usize = 65;

pub(super) struct Keyring {
    signing: EcdsaKeyPair,
    /// The first is the signing key's.
    public: Vec<PublicKey>,
}

struct PublicKey {
    id: String,
    point: Vec<u8>,
}

impl PublicKey {
    fn new(info: &[u8]) -> Option<Self> {
        let at = info.len().checked_sub(POINT_BYTES)?;
        let point = info.get(at..).filter(|p| p.first() == Some(&4))?;
        Some(Self {
            id: BASE64.encode(Sha256::digest(info)),
            point: point.to_vec(),
        })
    }

    fn verifies(&self, signed: &str, signature: &[u8]) -> bool {
        signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point)
            .verify(signed.as_bytes(), signature)
            .is_ok()
    }

    fn to_json(&self) -> Value {
        let half = |from: usize| BASE64.encode(self.point.get(from..from + 32).unwrap_or_default());
        json!({
            "use": "sig",
            "kty": "EC",
            "kid": self.id,
            "crv": "P-256",
            "alg": "ES256",
            "x": half(1),
            "y": half(33),
        })
    }
}

impl Keyring {
    pub fn new(keys: &SigningKeys) -> Result<Self, String> {
        let random = SystemRandom::new();
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &keys.private, &random)
            .map_err(|e| format!("the key of service account tokens cannot be used: {e}"))?;
        let public: Vec<PublicKey> = keys.public.iter().filter_map(|info| PublicKey::new(info)).collect();
        if public.len() != keys.public.len() || public.is_empty() {
            return Err("a public key of service account tokens is not of the curve P-256".into());
        }
        Ok(Self { signing, public })
    }

    pub fn sign(&self, claims: &Value) -> Result<String, Status> {
        let id = self.public.first().map_or("", |k| k.id.as_str());
        let header = json!({"alg": "ES256", "kid": id});
        let part = |v: &Value| BASE64.encode(v.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self
            .signing
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| Status::internal("the token could not be signed"))?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }

    /// The claims of a token that one of the keys signed.
    pub fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<C, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| BASE64.decode(part).map_err(|_| TokenError::Malformed);
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.get("alg").and_then(Value::as_str) != Some("ES256") {
            return Err(TokenError::Malformed);
        }
        let signature = decode(signature)?;
        let id = header.get("kid").and_then(Value::as_str).unwrap_or_default();
        let named = self.public.iter().filter(|k| k.id == id);
        let others = self.public.iter().filter(|k| k.id != id);
        if !named.chain(others).any(|key| key.verifies(signed, &signature)) {
            return Err(TokenError::Signature);
        }
        serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Malformed)
    }

    pub fn key_set(&self) -> Value {
        let keys: Vec<Value> = self.public.iter().map(PublicKey::to_json).collect();
        json!({"keys": keys})
    }
}
