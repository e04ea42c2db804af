//! What a token says.

use serde::Deserialize;

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
            id: claims.jti,
        };
        bearer.is_named(&claims.sub).then_some(bearer)
    }

    fn is_named(&self, subject: &str) -> bool {
        let rest = subject
            .strip_prefix("system:serviceaccount:")
            .and_then(|r| r.split_once(':'));
        rest == Some((self.namespace.as_str(), self.account.name.as_str()))
    }
}
