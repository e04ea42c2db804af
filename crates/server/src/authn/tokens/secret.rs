//! Tokens that are kept in Secrets of the type `kubernetes.io/service-account-token`: made when such a Secret is, and good
//! as long as it holds them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api::object::Object;
use coracle_api::status::Status;
use coracle_clock::Timestamp;
use ring::digest::{SHA256, digest};

use super::TokenError;
use crate::core::Core;
use crate::registry::{Call, read};

const KIND: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// Fills in what a token Secret that is being written lacks: the token, the CA's certificate, the namespace and its
/// account's uid. Without such an account it stays as it is, and nobody accepts it.
pub(crate) async fn fill(call: &Call<'_>, secret: &mut Object) -> Result<(), Status> {
    if !call.is_core("secrets") || !call.target.subresource.is_empty() || secret.str(&["type"]) != Some(KIND) {
        return Ok(());
    }
    let core = call.core;
    let namespace = call.target.namespace.clone();
    let Some(name) = secret.annotation(ACCOUNT).map(str::to_owned) else {
        return Ok(());
    };
    let table = core.registry.table();
    let Some(row) = table.get("", "v1", "serviceaccounts") else {
        return Ok(());
    };
    let Some(account) = read::load(core, row, &row.key(&namespace, &name)).await? else {
        return Ok(());
    };
    let account = account.object;
    match secret.annotation(ACCOUNT_UID) {
        Some(uid) if uid == account.uid() => {}
        // Of an account of this name that was there before.
        Some(_) => return Ok(()),
        None => secret.set(&["metadata", "annotations", ACCOUNT_UID], account.uid()),
    }
    let lacks = |secret: &Object, key: &str| secret.str(&["data", key]).unwrap_or_default().is_empty();
    if lacks(secret, "token") {
        let token = core.tokens.issue_for_secret(&account, secret.name())?;
        secret.set(&["data", "token"], STANDARD.encode(token));
    }
    if lacks(secret, "ca.crt") {
        secret.set(&["data", "ca.crt"], STANDARD.encode(core.ca.as_bytes()));
    }
    if lacks(secret, "namespace") {
        secret.set(&["data", "namespace"], STANDARD.encode(namespace));
    }
    Ok(())
}

/// Whether the Secret is there and holds this very token.
pub(super) async fn holds(core: &Arc<Core>, namespace: &str, name: &str, token: &str) -> Result<(), TokenError> {
    let gone = || TokenError::Gone(format!("secrets {namespace}/{name}"));
    let table = core.registry.table();
    let row = table.get("", "v1", "secrets").ok_or_else(gone)?;
    let found = read::load(core, row, &row.key(namespace, name))
        .await
        .map_err(|_| gone())?;
    let secret = found.ok_or_else(gone)?.object;
    let kept = STANDARD
        .decode(secret.str(&["data", "token"]).unwrap_or_default())
        .map_err(|_| gone())?;
    // Digests tell nothing of where the texts differ.
    let same = digest(&SHA256, &kept).as_ref() == digest(&SHA256, token.as_bytes()).as_ref();
    if !same || secret.is_terminating() && is_over(&secret, core.clock.now()) || secret.label(INVALID_SINCE).is_some() {
        return Err(gone());
    }
    Ok(())
}

fn is_over(secret: &Object, now: Timestamp) -> bool {
    let deleted = secret
        .str(&["metadata", "deletionTimestamp"])
        .and_then(|t| t.parse::<Timestamp>().ok());
    deleted.is_some_and(|d| d <= now)
}
