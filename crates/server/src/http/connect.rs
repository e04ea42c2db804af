//! Streams to and from nodes: logs, exec, attach, port-forward and node proxies go to the node's agent; the proxies of
//! pods and services go to the pod itself. Bodies flow as they come and are never collected; upgraded connections are
//! tunnelled byte by byte.

mod dial;
mod target;

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::status::Status;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::{Answer, Body, BoxError, Inbound};
use crate::core::Core;
use crate::metrics::Labels;

use dial::Link;
pub(crate) use dial::NodeClient;
use target::Destination;

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

/// Serves an authorized request for a stream.
pub(crate) async fn serve(core: &Arc<Core>, inbound: Inbound, labels: &Labels) -> Result<Answer, Status> {
    let destination = target::find(core, &inbound).await?;
    let guard: Box<dyn Send> = Box::new(core.metrics.long_running(labels));
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
        None => pass(link, destination, method, headers, request, guard).await,
    }
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
            ended = copy_bidirectional(&mut near, &mut far) => {
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
