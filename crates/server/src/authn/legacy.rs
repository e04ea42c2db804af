//! Tokens kept in Secrets, which do not expire: they live as long as the Secret that holds them and the account that they
//! are for. Their use is written down, day by day, so that those which nobody uses can be cleaned up.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coracle_api::object::Object;
use coracle_api::service::{Operation, PatchKind, Request, Target, UserInfo, WriteOptions};
use coracle_clock::Timestamp;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::json;

use super::tokens::TokenError;
use crate::core::Core;
use crate::registry::read;

const ISSUER: &str = "kubernetes/serviceaccount";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// What such a token says.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    iss: String,
    sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
}

/// What a token says, if it is of this kind. Nothing is verified.
pub(super) fn claims(token: &str) -> Option<Claims> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    (claims.iss == ISSUER).then_some(claims)
}

/// `2026-01-31`
pub(crate) fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).date().to_string()
}

/// The user behind a token whose signature has been verified.
pub(super) async fn authenticate(core: &Arc<Core>, token: &str, claims: &Claims) -> Result<UserInfo, TokenError> {
    let (namespace, account) = (claims.namespace.as_str(), claims.account.as_str());
    let name = format!("system:serviceaccount:{namespace}:{account}");
    if claims.sub != name {
        return Err(TokenError::Malformed);
    }
    let shown = format!("{namespace}/{}", claims.secret);
    let secret = find(core, "secrets", namespace, &claims.secret).await?;
    let held = secret.str(&["data", "token"]).unwrap_or_default();
    if secret.is_terminating() || STANDARD.decode(held).ok().as_deref() != Some(token.as_bytes()) {
        return Err(TokenError::Gone(format!("secrets {shown}")));
    }
    let found = find(core, "serviceaccounts", namespace, account).await?;
    if found.is_terminating() || found.uid() != claims.uid {
        return Err(TokenError::Gone(format!("serviceaccounts {namespace}/{account}")));
    }
    if secret.str(&["metadata", "labels", INVALID_SINCE]).is_some() {
        return Err(TokenError::Invalid(shown));
    }
    let today = day(core.clock.now());
    if secret.str(&["metadata", "labels", LAST_USED]) != Some(today.as_str()) {
        note_use(core, &secret, &today).await;
    }
    Ok(UserInfo {
        name,
        uid: claims.uid.clone(),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{namespace}"),
            super::AUTHENTICATED.into(),
        ],
        ..UserInfo::default()
    })
}

async fn find(core: &Arc<Core>, plural: &str, namespace: &str, name: &str) -> Result<Object, TokenError> {
    let gone = || TokenError::Gone(format!("{plural} {namespace}/{name}"));
    let table = core.registry.table();
    let row = table.get("", "v1", plural).ok_or_else(gone)?;
    let found = read::load(core, row, &row.key(namespace, name)).await;
    Ok(found.ok().flatten().ok_or_else(gone)?.object)
}

/// That it is not written down is no reason to refuse the request. (A review of a token is a request too, which is why this
/// future has to be of a known size.)
fn note_use<'a>(core: &'a Arc<Core>, secret: &'a Object, today: &'a str) -> BoxFuture<'a, ()> {
    async move {
        let operation = Operation::Patch {
            kind: PatchKind::Merge,
            patch: json!({"metadata": {"uid": secret.uid(), "labels": {LAST_USED: today}}}),
            options: WriteOptions {
                field_manager: "kube-apiserver".into(),
                ..WriteOptions::default()
            },
        };
        let target = Target {
            version: "v1".into(),
            resource: "secrets".into(),
            namespace: secret.namespace().to_owned(),
            name: secret.name().to_owned(),
            ..Target::default()
        };
        let request = Request { target, operation };
        if let Err(error) = core.serve(&crate::bootstrap::own_identity(), request).await {
            tracing::warn!(secret = secret.name(), %error, "the use of a token was not written down");
        }
    }
    .boxed()
}
