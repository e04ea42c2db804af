//! The HTTP front: it turns requests into calls of the object road and answers into bytes. Policy is elsewhere; here is
//! the order of things: who, what, whether, then the work.

pub(crate) mod body;
pub(crate) mod connect;
pub(crate) mod encode;
pub(crate) mod health;
pub(crate) mod impersonate;
pub(crate) mod listener;
pub(crate) mod negotiate;
pub(crate) mod nonresource;
pub(crate) mod query;
pub(crate) mod request_info;
pub(crate) mod resource;
pub(crate) mod table;
pub(crate) mod watch;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_api::duration;
use coracle_api::service::UserInfo;
use coracle_api::status::Status;
use futures::FutureExt;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::authn;
use crate::authz::{self, Attributes, Decision};
use crate::core::Core;
use crate::metrics::Labels;
use crate::registry::meta;
use negotiate::Wish;
use query::Query;
use request_info::RequestInfo;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) type Answer = Response<Body>;

pub(crate) const JSON: &str = "application/json";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A request with all that is known of it before its body is read.
pub(crate) struct Inbound {
    pub method: Method,
    pub headers: HeaderMap,
    pub info: RequestInfo,
    pub query: Query,
    pub wish: Wish,
    pub user: UserInfo,
    /// The peer is on this machine.
    pub local: bool,
    pub request: Request<Incoming>,
}

/// What is known of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub certificate: Option<Arc<UserInfo>>,
    pub local: bool,
}

/// Answers one request, whatever happens in it.
pub(crate) async fn handle(core: Arc<Core>, peer: Peer, request: Request<Incoming>) -> Answer {
    let started = core.clock.instant();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
    let wish = Wish::of(request.headers(), &query);
    let audit_id = request
        .headers()
        .get("audit-id")
        .filter(|v| v.len() <= 64)
        .cloned()
        .or_else(|| HeaderValue::from_str(&meta::uuid(&core.random).to_string()).ok());
    let head_only = request.method() == Method::HEAD;
    let labels = known_labels(&core, &info);
    let long = info.is_long_running();
    let path = info.path.clone();
    let limit = if long {
        None
    } else {
        Some(timeout(&query, core.limits.request_time))
    };
    let work = AssertUnwindSafe(serve(&core, peer, request, query, info, wish.clone(), &labels)).catch_unwind();
    let served = match limit {
        None => work.await,
        // A client that sends its body a byte at a time holds its place no longer than this.
        Some(limit) => match core.clock.timeout(limit, work).await {
            Ok(served) => served,
            Err(_) => Ok(Err(Status::timeout(
                "request did not complete within the allotted timeout",
            ))),
        },
    };
    let served = served.unwrap_or_else(|_| {
        core.metrics.panicked();
        tracing::error!(path, verb = labels.verb, "a request panicked");
        Err(Status::internal(
            "the request hit a bug in the server, which is logged there",
        ))
    });
    let mut answer = served.unwrap_or_else(|status| encode::status(&status, wish.status()));
    if let Some(mut id) = audit_id {
        // It never comes again: in HTTP/2's table of headers it would only displace others.
        id.set_sensitive(true);
        answer.headers_mut().insert(HeaderName::from_static("audit-id"), id);
    }
    answer.headers_mut().insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    let took = (!long).then(|| core.clock.instant().saturating_duration_since(started));
    core.metrics.answered(&labels, answer.status().as_u16(), took);
    if head_only {
        let (parts, _) = answer.into_parts();
        return Response::from_parts(parts, empty());
    }
    answer
}

/// How long a request may take: what it asks for by `timeout`, but no longer than the server allows.
fn timeout(query: &Query, most: Duration) -> Duration {
    let asked = query.get("timeout").and_then(duration::parse_length);
    asked.filter(|d| !d.is_zero()).map_or(most, |d| d.min(most))
}

/// How metrics name a request. What is not served is not told apart: anybody can make up names.
fn known_labels(core: &Core, info: &RequestInfo) -> Labels {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let target = &info.target;
    if target.resource.is_empty() {
        let mut labels = info.labels();
        if !METHODS.contains(&labels.verb.as_str()) {
            labels.verb = "other".into();
        }
        return labels;
    }
    let table = core.registry.table();
    let row = table.get(&target.group, &target.version, &target.resource);
    let served = row.is_some_and(|row| target.subresource.is_empty() || row.subresource(&target.subresource).is_some());
    if served {
        return info.labels();
    }
    Labels {
        verb: "other".into(),
        ..Labels::default()
    }
}

async fn serve(
    core: &Arc<Core>,
    peer: Peer,
    request: Request<Incoming>,
    query: Query,
    info: RequestInfo,
    wish: Wish,
    labels: &Labels,
) -> Result<Answer, Status> {
    let known = authn::authenticate(core, peer.certificate.as_ref(), request.headers()).await?;
    if known.is_none() && !info.is_open_to_all() {
        return Err(Status::unauthorized());
    }
    let mut user = known.unwrap_or_else(authn::anonymous);
    if let Some(other) = impersonate::impersonated(core, &user, request.headers()).await? {
        user = other;
    }
    if !info.is_open_to_all() {
        authorize(core, &info.attributes(&user)).await?;
    }
    // The kubelet's and load balancers' probes must get through when nothing else does.
    let _turn = if info.is_long_running() || info.is_open_to_all() {
        None
    } else {
        Some(core.limits.enter(&core.metrics, info.is_mutating()).await?)
    };
    let incoming = Inbound {
        method: request.method().clone(),
        headers: request.headers().clone(),
        query,
        wish,
        info,
        user,
        local: peer.local,
        request,
    };
    if incoming.info.target.resource.is_empty() {
        nonresource::serve(core, incoming).await
    } else {
        resource::serve(core, incoming, labels).await
    }
}

/// Refuses what nothing allows.
pub(crate) async fn authorize(core: &Arc<Core>, attributes: &Attributes) -> Result<(), Status> {
    let decision = core.authorizer.authorize(attributes).await?;
    core.metrics.authorized(matches!(decision, Decision::Allow(_)));
    match decision {
        Decision::Allow(_) => Ok(()),
        Decision::NoOpinion(reason) => Err(authz::forbidden(attributes, &reason)),
    }
}

pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer of text or JSON.
pub(crate) fn plain(code: u16, content_type: &'static str, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(bytes));
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// A JSON answer.
pub(crate) fn json(code: u16, value: &serde_json::Value) -> Answer {
    plain(code, JSON, serde_json::to_vec(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_takes_as_long_as_it_asks_for_up_to_a_limit() {
        let most = Duration::from_secs(60);
        for (query, expected) in [
            ("", 60_000),
            ("timeout=5s", 5_000),
            ("timeout=1500ms", 1_500),
            ("timeout=2m", 60_000),
            ("timeout=0m30s", 30_000),
            ("timeout=0s", 60_000),
            ("timeout=soon", 60_000),
            ("timeout=-1s", 60_000),
        ] {
            assert_eq!(timeout(&Query::parse(query), most).as_millis(), expected, "{query}");
        }
    }
}
