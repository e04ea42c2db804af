//! Service account tokens: JSON web tokens signed by this server (ES256), verified with its own keys, and alive only as
//! long as the service account and the object that they are bound to. Those in Secrets do not expire: they live as long
//! as their Secret.

mod claims;
mod keys;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use coracle_api::service::UserInfo;
use coracle_api::status::Status;
use coracle_clock::Timestamp;
use serde_json::{Value, json};

use crate::core::Core;
use crate::pki::SigningKeys;
use claims::{Bearer, Claims, Reference};
use keys::Keyring;

/// What the agents of nodes ask for when nobody chose a life: clients of long ago read such a token once.
const NOBODY_CHOSE: i64 = 3607;
const YEAR: i64 = 365 * 86_400;

/// Signs and verifies.
pub(crate) struct TokenIssuer {
    keys: ArcSwap<Keyring>,
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
    /// Of a pod: its node's name and uid.
    pub node: Option<(String, String)>,
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

impl TokenIssuer {
    pub fn new(keys: &SigningKeys, issuer: String) -> Result<Self, String> {
        let audience = issuer.clone();
        Ok(Self {
            keys: ArcSwap::from_pointee(Keyring::new(keys)?),
            issuer,
            audience,
        })
    }

    /// From now on these sign and verify.
    pub fn set_keys(&self, keys: &SigningKeys) -> Result<(), String> {
        self.keys.store(Arc::new(Keyring::new(keys)?));
        Ok(())
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The audiences of this server itself.
    pub fn audiences(&self) -> [String; 1] {
        [self.audience.clone()]
    }

    pub fn issue(&self, grant: &Grant, now: Timestamp) -> Result<Issued, Status> {
        let audiences = if grant.audiences.is_empty() {
            vec![self.audience.clone()]
        } else {
            grant.audiences.clone()
        };
        let after = |seconds| {
            now.checked_add(jiff::SignedDuration::from_secs(seconds))
                .map_err(|e| Status::bad_request(format!("expirationSeconds is too far away: {e}")))
        };
        let expires = after(grant.seconds)?;
        let own = audiences.contains(&self.audience);
        let is_pods = grant.bound.as_ref().is_some_and(|b| b.kind == "Pod");
        // A client that read its token once goes on for a year; those that read it again get what they asked for.
        let extended = grant.seconds == NOBODY_CHOSE && own && is_pods;
        let valid_until = if extended { after(YEAR)? } else { expires };
        let seconds = now.as_second();
        let mut kubernetes = json!({
            "namespace": grant.namespace,
            "serviceaccount": {"name": grant.account, "uid": grant.account_uid},
        });
        if let (Some(bound), Value::Object(claims)) = (&grant.bound, &mut kubernetes) {
            claims.insert(bound.kind.to_lowercase(), json!({"name": bound.name, "uid": bound.uid}));
            if let Some((node, uid)) = &bound.node {
                claims.insert("node".into(), json!({"name": node, "uid": uid}));
            }
            if extended {
                claims.insert("warnafter".into(), expires.as_second().into());
            }
        }
        let claims = json!({
            "iss": self.issuer,
            "sub": format!("system:serviceaccount:{}:{}", grant.namespace, grant.account),
            "aud": audiences,
            "exp": valid_until.as_second(),
            "iat": seconds,
            "nbf": seconds,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": kubernetes,
        });
        Ok(Issued {
            token: self.keys.load().sign(&claims)?,
            audiences,
            expires,
        })
    }

    /// Whether one of this cluster's keys has signed the token, of whatever kind it is.
    fn check_signature(&self, token: &str) -> Result<(), TokenError> {
        self.keys.load().verify::<Value>(token).map(drop)
    }

    fn verify(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<(Bearer, Vec<String>), TokenError> {
        let claims: Claims = self.keys.load().verify(token)?;
        let own = self.audiences();
        let asked = if audiences.is_empty() { &own[..] } else { audiences };
        if claims.iss != self.issuer {
            return Err(TokenError::Malformed);
        }
        let seconds = now.as_second();
        if claims.exp.is_none_or(|exp| seconds >= exp) {
            return Err(TokenError::Expired);
        }
        if seconds + 60 < claims.nbf {
            return Err(TokenError::Early);
        }
        let common = common(asked, claims.aud.as_slice())?;
        Ok((Bearer::bound(claims).ok_or(TokenError::Malformed)?, common))
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
        self.keys.load().key_set()
    }
}

/// Those of the audiences asked for that a token is for.
pub(crate) fn common(asked: &[String], given: &[String]) -> Result<Vec<String>, TokenError> {
    let common: Vec<String> = asked.iter().filter(|a| given.contains(a)).cloned().collect();
    if common.is_empty() {
        return Err(TokenError::Audience);
    }
    Ok(common)
}

/// The user that a service account's token stands for, and those of the audiences asked for that it is for.
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
    let (bearer, audiences) = core.tokens.verify(token, audiences, core.clock.now())?;
    let namespace = bearer.namespace.as_str();
    is_alive(core, "serviceaccounts", namespace, &bearer.account).await?;
    let mut extra = BTreeMap::new();
    let mut tell = |key: &str, value: &str| {
        extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if let Some(pod) = &bearer.pod {
        is_alive(core, "pods", namespace, pod).await?;
        tell("pod-name", &pod.name);
        tell("pod-uid", &pod.uid);
    }
    if let Some(node) = &bearer.node {
        // A token of a pod dies with the pod; one of a node with the node.
        if bearer.pod.is_none() {
            is_alive(core, "nodes", "", node).await?;
        }
        tell("node-name", &node.name);
        if !node.uid.is_empty() {
            tell("node-uid", &node.uid);
        }
    }
    if let Some(secret) = &bearer.secret {
        is_alive(core, "secrets", namespace, secret).await?;
    }
    if !bearer.id.is_empty() {
        tell("credential-id", &format!("JTI={}", bearer.id));
    }
    let user = UserInfo {
        name: format!("system:serviceaccount:{namespace}:{}", bearer.account.name),
        uid: bearer.account.uid.clone(),
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

    fn keys() -> SigningKeys {
        let key = rcgen::KeyPair::generate().unwrap();
        SigningKeys {
            private: key.serialized_der().to_vec(),
            public: vec![rcgen::PublicKeyData::subject_public_key_info(&key)],
        }
    }

    fn issuer() -> TokenIssuer {
        TokenIssuer::new(&keys(), "https://issuer".into()).unwrap()
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
        let (bearer, audiences) = tokens.verify(&issued.token, &[], now).unwrap();
        assert_eq!(
            (bearer.namespace.as_str(), bearer.account.name.as_str()),
            ("default", "a")
        );
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
