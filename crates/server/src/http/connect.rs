//! Streams to and from nodes: logs, exec, attach, port-forward and node proxies go to the node's agent; the proxies of
//! pods and services go to the pod itself. Bodies flow as they come and are never collected; upgraded connections are
//! tunnelled byte by byte.

mod target;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_api::status::Status;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use super::{Answer, Body, BoxError, Inbound};
use crate::core::Core;
use crate::dial::{Destination, Link};
use crate::metrics::Labels;

/// Headers that speak of one connection and are not handed on.
const HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What is read of an answer that says why there is no log.
const REASON_LIMIT: usize = 8 << 10;
/// What is read of an answer of an agent's that is wanted whole.
const FETCH_LIMIT: usize = 32 << 20;
const FETCH_TIME: Duration = Duration::from_secs(10);
/// What is carried at once through a tunnel.
const CARRY: usize = 64 << 10;

/// Serves an authorized request for a stream.
pub(crate) fn serve<'a>(
    core: &'a Arc<Core>,
    inbound: Inbound,
    labels: &Labels,
) -> BoxFuture<'a, Result<Answer, Status>> {
    let guard: Box<dyn Send> = Box::new(core.metrics.long_running(labels));
    counted(core, inbound, guard).boxed()
}

async fn counted(core: &Arc<Core>, inbound: Inbound, guard: Box<dyn Send>) -> Result<Answer, Status> {
    check_upgrade(core, &inbound).await?;
    let is_log = inbound.info.target.subresource == "log";
    let destination = target::find(core, &inbound).await?;
    let Inbound {
        headers,
        method,
        request,
        ..
    } = inbound;
    let upgrade = headers
        .get(header::UPGRADE)
        .cloned()
        .filter(|_| wants_upgrade(&headers));
    let link = core.nodes.load_full().dial(core.clock, &destination).await?;
    match upgrade {
        Some(protocol) => tunnel(core, link, destination, method, headers, protocol, request, guard).await,
        None => {
            let answer = pass(link, destination, method, headers, request, guard).await?;
            if is_log && !answer.status().is_success() {
                return Err(refused(answer).await);
            }
            Ok(answer)
        }
    }
}

/// A WebSocket asks by GET for what changes things; whoever may only get may not have it.
async fn check_upgrade(core: &Arc<Core>, inbound: &Inbound) -> Result<(), Status> {
    let target = &inbound.info.target;
    let changes = matches!(target.subresource.as_str(), "exec" | "attach" | "portforward");
    if inbound.method != Method::GET || !changes {
        return Ok(());
    }
    super::authorize(
        core,
        &crate::authz::resource_attributes(&inbound.user, "create", target),
    )
    .await
}

/// What an agent says of a log that it does not give, as a client understands it.
async fn refused(answer: Answer) -> Status {
    let code = answer.status().as_u16();
    let mut body = answer.into_body();
    let mut reason = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        reason.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if reason.len() >= REASON_LIMIT {
            break;
        }
    }
    reason.truncate(REASON_LIMIT);
    let text = String::from_utf8_lossy(&reason).trim().to_owned();
    match code {
        400 => Status::bad_request(text),
        404 => Status::failure(404, "NotFound", text),
        500 => Status::internal(text),
        _ => Status::failure(code, "", text),
    }
}

/// The resource metrics of a node, as its agent tells them.
pub(crate) fn metrics<'a>(core: &'a Arc<Core>, node: &'a str) -> BoxFuture<'a, Result<Bytes, String>> {
    let get = async move {
        let destination = target::metrics(core, node).await.map_err(|s| s.message)?;
        let nodes = core.nodes.load_full();
        let link = nodes.dial(core.clock, &destination).await.map_err(|s| s.message)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(link)).await.map_err(|e| e.to_string())?;
        let _driver = AbortOnDrop(tokio::spawn(connection));
        let nothing: Body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let asked = outgoing(&destination, Method::GET, &HeaderMap::new(), None, nothing).map_err(|s| s.message)?;
        let answer = sender.send_request(asked).await.map_err(|e| e.to_string())?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("its agent answers {} with {status}", destination.path));
        }
        let body = Limited::new(answer.into_body(), FETCH_LIMIT).collect().await;
        body.map(|b| b.to_bytes()).map_err(|e| e.to_string())
    };
    async move {
        let got = core.clock.timeout(FETCH_TIME, get).await;
        got.map_err(|_| "its agent does not answer".to_owned())?
    }
    .boxed()
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok());
    connection
        .flat_map(|v| v.split(','))
        .any(|v| v.trim().eq_ignore_ascii_case("upgrade"))
}

/// The request as the other side gets it: no credentials of the caller, no headers of the connection.
fn outgoing(
    destination: &Destination,
    method: Method,
    headers: &HeaderMap,
    upgrade: Option<&HeaderValue>,
    body: UnsyncBoxBody<Bytes, BoxError>,
) -> Result<Request<UnsyncBoxBody<Bytes, BoxError>>, Status> {
    let uri: Uri = destination
        .path
        .parse()
        .map_err(|e| Status::bad_request(format!("the path cannot be handed on: {e}")))?;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    for (name, value) in headers {
        let private =
            *name == header::AUTHORIZATION || *name == header::HOST || name.as_str().starts_with("impersonate-");
        if !private && !HOP.contains(&name.as_str()) {
            request.headers_mut().append(name, value.clone());
        }
    }
    let host = HeaderValue::from_str(&destination.authority())
        .map_err(|e| Status::internal(format!("the node's address cannot be used: {e}")))?;
    request.headers_mut().insert(header::HOST, host);
    if let Some(protocol) = upgrade {
        request
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(header::UPGRADE, protocol.clone());
    }
    Ok(request)
}

fn broken(destination: &Destination, error: &dyn std::fmt::Display) -> Status {
    Status::failure(
        502,
        "",
        format!("error dialing backend: {}: {error}", destination.authority()),
    )
}

/// Hands a request through and its answer back.
async fn pass(
    link: Link,
    destination: Destination,
    method: Method,
    headers: HeaderMap,
    request: Request<hyper::body::Incoming>,
    guard: Box<dyn Send>,
) -> Result<Answer, Status> {
    let body = request.into_body().map_err(|e| -> BoxError { e.into() }).boxed_unsync();
    let (mut sender, connection) = http1::handshake(TokioIo::new(link))
        .await
        .map_err(|e| broken(&destination, &e))?;
    let driver = tokio::spawn(connection);
    let asked = outgoing(&destination, method, &headers, None, body)?;
    let answer = sender.send_request(asked).await.map_err(|e| broken(&destination, &e))?;
    let (mut parts, body) = answer.into_parts();
    strip(&mut parts.headers);
    // The connection, and the count of open streams, live as long as the body.
    let held = Held {
        _guard: guard,
        _driver: AbortOnDrop(driver),
    };
    let body = body
        .map_err(|e| -> BoxError { e.into() })
        .map_frame(move |frame| {
            let _ = &held;
            frame
        })
        .boxed_unsync();
    Ok(Response::from_parts(parts, body))
}

struct Held {
    _guard: Box<dyn Send>,
    _driver: AbortOnDrop,
}

struct AbortOnDrop(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP {
        headers.remove(name);
    }
    // Nobody behind a proxy speaks for the API server's own origin.
    headers.remove("alt-svc");
}

/// Upgrades both sides and copies bytes between them until either ends.
#[allow(clippy::too_many_arguments)]
async fn tunnel(
    core: &Arc<Core>,
    link: Link,
    destination: Destination,
    method: Method,
    headers: HeaderMap,
    protocol: HeaderValue,
    mut request: Request<hyper::body::Incoming>,
    guard: Box<dyn Send>,
) -> Result<Answer, Status> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(link))
        .await
        .map_err(|e| broken(&destination, &e))?;
    let driver = tokio::spawn(connection.with_upgrades());
    let nothing: Body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let asked = outgoing(&destination, method, &headers, Some(&protocol), nothing)?;
    let mut answer = sender.send_request(asked).await.map_err(|e| broken(&destination, &e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut parts, body) = answer.into_parts();
        strip(&mut parts.headers);
        let held = (guard, sender);
        let body = body
            .map_err(|e| -> BoxError { e.into() })
            .map_frame(move |frame| {
                let _ = &held;
                frame
            })
            .boxed_unsync();
        return Ok(Response::from_parts(parts, body));
    }
    let near = hyper::upgrade::on(&mut request);
    let far = hyper::upgrade::on(&mut answer);
    let shutdown = core.shutdown.clone();
    tokio::spawn(async move {
        let _guard = guard;
        let (near, far) = match tokio::try_join!(near, far) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "a stream was not upgraded");
                driver.abort();
                return;
            }
        };
        let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
        tokio::select! {
            ended = copy_bidirectional_with_sizes(&mut near, &mut far, CARRY, CARRY) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a stream broke");
                }
            }
            () = shutdown.cancelled() => {}
        }
    });
    let mut accepted = Response::new(super::empty());
    *accepted.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in answer.headers() {
        if !HOP.contains(&name.as_str()) {
            accepted.headers_mut().append(name.clone(), value.clone());
        }
    }
    let protocol = answer.headers().get(header::UPGRADE).cloned().unwrap_or(protocol);
    accepted
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    accepted
        .headers_mut()
        .insert(HeaderName::from_static("upgrade"), protocol);
    Ok(accepted)
}
