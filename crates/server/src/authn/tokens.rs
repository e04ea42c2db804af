//! Service account tokens: JSON web tokens signed by this server (ES256), verified with its own key, and alive only as
//! long as the service account and the object that they are bound to.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use coracle_api::service::UserInfo;
use coracle_api::status::Status;
use coracle_clock::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::core::Core;

/// Signs and verifies.
pub(crate) struct TokenIssuer {
    key: EcdsaKeyPair,
    key_id: String,
    issuer: String,
    audience: String,
}

/// What a token is to say.
pub(crate) struct Grant {
    pub namespace: String,
    pub account: String,
    pub account_uid: String,
    /// Empty: the API server itself.
    pub audiences: Vec<String>,
    pub seconds: i64,
    pub bound: Option<Bound>,
}

/// The object that a token lives and dies with.
pub(crate) struct Bound {
    pub kind: String,
    pub name: String,
    pub uid: String,
    /// Of a pod.
    pub node: Option<String>,
}

/// A signed token.
pub(crate) struct Issued {
    pub token: String,
    pub audiences: Vec<String>,
    pub expires: Timestamp,
}

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token is not a JSON web token of this cluster")]
    Malformed,
    #[error("the token's signature does not verify")]
    Signature,
    #[error("the token has expired: ask for a new one")]
    Expired,
    #[error("the token is not valid yet: check the clocks")]
    Early,
    #[error("the token is for other audiences")]
    Audience,
    #[error("what the token is bound to is gone: {0}")]
    Gone(String),
    #[error(
        "the token in secret {0} has been marked invalid: use the TokenRequest API, or remove the secret's label kubernetes.io/legacy-token-invalid-since"
    )]
    Invalid(String),
}

#[derive(Debug, Deserialize, Serialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: OneOrMany,
    exp: i64,
    #[serde(default)]
    nbf: i64,
    #[serde(default)]
    jti: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize, Serialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Reference>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Reference {
    name: String,
    uid: String,
}

impl TokenIssuer {
    /// From a PKCS #8 P-256 key.
    pub fn new(pkcs8: &[u8], issuer: String) -> Result<Self, String> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|e| format!("the service account signing key cannot be used: {e}"))?;
        let key_id = BASE64.encode(Sha256::digest(key.public_key().as_ref()));
        let audience = issuer.clone();
        Ok(Self {
            key,
            key_id,
            issuer,
            audience,
        })
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn issue(&self, grant: &Grant, now: Timestamp) -> Result<Issued, Status> {
        let audiences = if grant.audiences.is_empty() {
            vec![self.audience.clone()]
        } else {
            grant.audiences.clone()
        };
        let expires = now
            .checked_add(jiff::SignedDuration::from_secs(grant.seconds))
            .map_err(|e| Status::bad_request(format!("expirationSeconds is too far away: {e}")))?;
        let seconds = now.as_second();
        let mut kubernetes = json!({
            "namespace": grant.namespace,
            "serviceaccount": {"name": grant.account, "uid": grant.account_uid},
        });
        if let (Some(bound), Value::Object(claims)) = (&grant.bound, &mut kubernetes) {
            claims.insert(bound.kind.to_lowercase(), json!({"name": bound.name, "uid": bound.uid}));
            if let Some(node) = &bound.node {
                claims.insert("node".into(), json!({"name": node, "uid": ""}));
            }
        }
        let claims = json!({
            "iss": self.issuer,
            "sub": format!("system:serviceaccount:{}:{}", grant.namespace, grant.account),
            "aud": audiences,
            "exp": expires.as_second(),
            "iat": seconds,
            "nbf": seconds,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": kubernetes,
        });
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let part = |v: &Value| BASE64.encode(v.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| Status::internal("the token could not be signed"))?;
        Ok(Issued {
            token: format!("{signed}.{}", BASE64.encode(signature)),
            audiences,
            expires,
        })
    }

    /// Whether this cluster's key has signed the token, of whatever kind it is.
    fn check_signature(&self, token: &str) -> Result<(), TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, _) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| BASE64.decode(part).map_err(|_| TokenError::Malformed);
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.get("alg").and_then(Value::as_str) != Some("ES256") {
            return Err(TokenError::Malformed);
        }
        signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Signature)
    }

    fn verify(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<(Claims, Vec<String>), TokenError> {
        self.check_signature(token)?;
        let claims = token.split('.').nth(1).unwrap_or_default();
        let claims = BASE64.decode(claims).map_err(|_| TokenError::Malformed)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| TokenError::Malformed)?;
        if claims.iss != self.issuer {
            return Err(TokenError::Malformed);
        }
        let seconds = now.as_second();
        if seconds >= claims.exp {
            return Err(TokenError::Expired);
        }
        if seconds + 60 < claims.nbf {
            return Err(TokenError::Early);
        }
        let own = [self.audience.clone()];
        let asked = if audiences.is_empty() { &own[..] } else { audiences };
        let given = match &claims.aud {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many.as_slice(),
        };
        let common: Vec<String> = asked.iter().filter(|a| given.contains(a)).cloned().collect();
        if common.is_empty() {
            return Err(TokenError::Audience);
        }
        Ok((claims, common))
    }

    /// `/.well-known/openid-configuration`.
    pub fn discovery_document(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// `/openid/v1/jwks`.
    pub fn key_set(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.key.public_key().as_ref();
        let (x, y) = point
            .get(1..)
            .unwrap_or_default()
            .split_at(32.min(point.len().saturating_sub(1)));
        json!({"keys": [{
            "use": "sig",
            "kty": "EC",
            "kid": self.key_id,
            "crv": "P-256",
            "alg": "ES256",
            "x": BASE64.encode(x),
            "y": BASE64.encode(y),
        }]})
    }
}

/// The user that a token stands for, and those of the audiences asked for that it is for.
pub(crate) async fn authenticate(
    core: &Arc<Core>,
    token: &str,
    audiences: &[String],
) -> Result<(UserInfo, Vec<String>), TokenError> {
    if let Some(claims) = super::legacy::claims(token) {
        core.tokens.check_signature(token)?;
        let own = core.tokens.audience.clone();
        if !audiences.is_empty() && !audiences.contains(&own) {
            return Err(TokenError::Audience);
        }
        let user = super::legacy::authenticate(core, token, &claims).await?;
        return Ok((user, vec![own]));
    }
    let (claims, audiences) = core.tokens.verify(token, audiences, core.clock.now())?;
    let kubernetes = &claims.kubernetes;
    let namespace = kubernetes.namespace.as_str();
    is_alive(core, "serviceaccounts", namespace, &kubernetes.serviceaccount).await?;
    let mut extra = BTreeMap::new();
    if let Some(pod) = &kubernetes.pod {
        is_alive(core, "pods", namespace, pod).await?;
        extra.insert(
            "authentication.kubernetes.io/pod-name".to_owned(),
            vec![pod.name.clone()],
        );
        extra.insert("authentication.kubernetes.io/pod-uid".to_owned(), vec![pod.uid.clone()]);
    }
    if let Some(node) = &kubernetes.node {
        extra.insert(
            "authentication.kubernetes.io/node-name".to_owned(),
            vec![node.name.clone()],
        );
    }
    if let Some(secret) = &kubernetes.secret {
        is_alive(core, "secrets", namespace, secret).await?;
    }
    if !claims.jti.is_empty() {
        extra.insert(
            "authentication.kubernetes.io/credential-id".to_owned(),
            vec![format!("JTI={}", claims.jti)],
        );
    }
    let user = UserInfo {
        name: format!("system:serviceaccount:{namespace}:{}", kubernetes.serviceaccount.name),
        uid: kubernetes.serviceaccount.uid.clone(),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{namespace}"),
            super::AUTHENTICATED.into(),
        ],
        extra,
    };
    Ok((user, audiences))
}

/// Whether the very object that a token names still exists.
async fn is_alive(core: &Arc<Core>, plural: &str, namespace: &str, what: &Reference) -> Result<(), TokenError> {
    let gone = || TokenError::Gone(format!("{plural} {namespace}/{}", what.name));
    let table = core.registry.table();
    let row = table.get("", "v1", plural).ok_or_else(gone)?;
    let found = crate::registry::read::load_stored(core, &row.key(namespace, &what.name))
        .await
        .map_err(|_| gone())?;
    match found {
        Some(object) if *object.head().uid == *what.uid => Ok(()),
        _ => Err(gone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer() -> TokenIssuer {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        TokenIssuer::new(pkcs8.as_ref(), "https://issuer".into()).unwrap()
    }

    fn grant(seconds: i64) -> Grant {
        Grant {
            namespace: "default".into(),
            account: "a".into(),
            account_uid: "u".into(),
            audiences: Vec::new(),
            seconds,
            bound: None,
        }
    }

    #[test]
    fn a_token_verifies_until_it_expires_for_its_audience_and_with_its_key_only() {
        let tokens = issuer();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let issued = tokens.issue(&grant(600), now).unwrap();
        let (claims, audiences) = tokens.verify(&issued.token, &[], now).unwrap();
        assert_eq!(claims.sub, "system:serviceaccount:default:a");
        assert_eq!(audiences, ["https://issuer"]);
        let late = now.checked_add(jiff::SignedDuration::from_secs(600)).unwrap();
        assert!(matches!(
            tokens.verify(&issued.token, &[], late),
            Err(TokenError::Expired)
        ));
        assert!(matches!(
            tokens.verify(&issued.token, &["vault".into()], now),
            Err(TokenError::Audience)
        ));
        assert!(matches!(
            issuer().verify(&issued.token, &[], now),
            Err(TokenError::Signature)
        ));
        assert!(matches!(tokens.verify("x.y.z", &[], now), Err(TokenError::Malformed)));
    }
}
