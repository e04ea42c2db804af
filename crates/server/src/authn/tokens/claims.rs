//! What a token says, in its present form and in the one of tokens that are kept in Secrets.

use serde::Deserialize;

/// Who issues the tokens in Secrets.
pub(super) const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub iss: String,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    pub aud: OneOrMany,
    #[serde(default)]
    pub exp: Option<i64>,
    #[serde(default)]
    pub nbf: i64,
    #[serde(default)]
    jti: String,
    #[serde(rename = "kubernetes.io", default)]
    kubernetes: Option<Kubernetes>,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace", default)]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name", default)]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name", default)]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid", default)]
    account_uid: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Reference,
    #[serde(default)]
    pod: Option<Reference>,
    #[serde(default)]
    secret: Option<Reference>,
    #[serde(default)]
    node: Option<Reference>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Reference {
    pub name: String,
    #[serde(default)]
    pub uid: String,
}

/// Whom a verified token stands for, and what it lives with.
#[derive(Debug)]
pub(super) struct Bearer {
    pub namespace: String,
    pub account: Reference,
    pub pod: Option<Reference>,
    pub secret: Option<Reference>,
    pub node: Option<Reference>,
    /// The Secret that the token is kept in.
    pub legacy_secret: Option<String>,
    pub id: String,
}

impl Bearer {
    /// From a token that was asked for.
    pub fn bound(claims: Claims) -> Option<Self> {
        let kubernetes = claims.kubernetes?;
        let bearer = Self {
            namespace: kubernetes.namespace,
            account: kubernetes.serviceaccount,
            pod: kubernetes.pod,
            secret: kubernetes.secret,
            node: kubernetes.node,
            legacy_secret: None,
            id: claims.jti,
        };
        bearer.is_named(&claims.sub).then_some(bearer)
    }

    /// From a token in a Secret.
    pub fn of_secret(claims: Claims) -> Option<Self> {
        let complete = [&claims.namespace, &claims.secret, &claims.account, &claims.account_uid]
            .iter()
            .all(|part| !part.is_empty());
        let bearer = Self {
            namespace: claims.namespace,
            account: Reference {
                name: claims.account,
                uid: claims.account_uid,
            },
            pod: None,
            secret: None,
            node: None,
            legacy_secret: Some(claims.secret),
            id: String::new(),
        };
        (complete && bearer.is_named(&claims.sub)).then_some(bearer)
    }

    fn is_named(&self, subject: &str) -> bool {
        let rest = subject
            .strip_prefix("system:serviceaccount:")
            .and_then(|r| r.split_once(':'));
        rest == Some((self.namespace.as_str(), self.account.name.as_str()))
    }
}
