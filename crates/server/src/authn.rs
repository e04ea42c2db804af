//! Who asks: by the client certificate of the connection, or by a bearer token. A request that says nothing is
//! anonymous, which is enough for the health endpoints and the version only; one that says something wrong is refused.

mod bootstrap;
pub(crate) mod certificate;
pub(crate) mod legacy;
pub(crate) mod token_file;
pub(crate) mod tokens;

use std::sync::Arc;

use coracle_api::service::UserInfo;
use coracle_api::status::Status;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::core::Core;
use tokens::TokenError;

pub(crate) const AUTHENTICATED: &str = "system:authenticated";

/// Nobody in particular.
pub(crate) fn anonymous() -> UserInfo {
    UserInfo {
        name: "system:anonymous".into(),
        groups: vec!["system:unauthenticated".into()],
        ..UserInfo::default()
    }
}

/// The user behind a request; `None` if it carries no credentials.
pub(crate) async fn authenticate(
    core: &Arc<Core>,
    certificate: Option<&Arc<UserInfo>>,
    headers: &HeaderMap,
) -> Result<Option<UserInfo>, Status> {
    if let Some(user) = certificate {
        core.metrics.authenticated(true);
        return Ok(Some(user.as_ref().clone()));
    }
    let bearer = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| {
        let (scheme, token) = v.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let token = match bearer {
        Some(token) => Some(token.to_owned()),
        // Browsers cannot set headers on a WebSocket: the token comes as a subprotocol.
        None => websocket_token(headers),
    };
    let Some(token) = token.filter(|t| !t.is_empty()) else {
        return Ok(None);
    };
    match authenticate_token(core, &token, &[]).await {
        Ok((user, _)) => {
            core.metrics.authenticated(true);
            Ok(Some(user))
        }
        Err(error) => {
            core.metrics.authenticated(false);
            tracing::debug!(%error, "a bearer token was refused");
            Err(Status::unauthorized())
        }
    }
}

/// The user of a token of any kind, and those of the audiences asked for that it is for. Tokens without audiences are
/// for this server.
pub(crate) async fn authenticate_token(
    core: &Arc<Core>,
    token: &str,
    audiences: &[String],
) -> Result<(UserInfo, Vec<String>), TokenError> {
    let own = core.tokens.audiences();
    let asked = if audiences.is_empty() { &own[..] } else { audiences };
    if let Some(user) = core.token_file.user(token) {
        return Ok((user.clone(), tokens::common(asked, &own)?));
    }
    if let Some(user) = bootstrap::authenticate(core, token).await {
        return Ok((user, tokens::common(asked, &own)?));
    }
    tokens::authenticate(core, token, audiences).await
}

fn websocket_token(headers: &HeaderMap) -> Option<String> {
    use base64::Engine;
    let protocols = headers.get("sec-websocket-protocol")?.to_str().ok()?;
    let encoded = protocols
        .split(',')
        .find_map(|p| p.trim().strip_prefix("base64url.bearer.authorization.k8s.io."))?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok()
}
