//! From path to answer.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::json;
use tokio::sync::mpsc;

use super::{Api, logs};

pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A whole answer.
pub(super) fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

pub(super) fn plain(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    text(status, "text/plain; charset=utf-8", body.into())
}

/// An answer that is sent as it comes; it ends with the sender.
pub(super) fn streamed(chunks: mpsc::Receiver<Result<Bytes, std::io::Error>>) -> Response<Body> {
    let stream = futures::stream::unfold(chunks, |mut chunks| async { Some((chunks.recv().await?, chunks)) });
    let body = StreamBody::new(stream.map(|chunk| chunk.map(Frame::data)));
    let mut response = Response::new(body.boxed_unsync());
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

/// Query parameters by name.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request<Incoming>) -> Self {
        let pairs = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|p| !p.is_empty());
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|v| matches!(v, "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Answers one request of a caller who may call, or may not.
pub(super) async fn answer(api: Arc<Api>, request: Request<Incoming>, may: bool) -> Result<Response<Body>, Infallible> {
    if !may {
        return Ok(plain(StatusCode::FORBIDDEN, "Forbidden"));
    }
    let query = Query::of(&request);
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let response = match (request.method(), parts.as_slice()) {
        (&Method::GET, ["healthz"]) => plain(StatusCode::OK, "ok"),
        (&Method::GET, ["pods"]) => pods(&api),
        (&Method::GET, ["metrics"]) => metrics(&api),
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            logs::answer(&api, namespace, pod, container, &query).await
        }
        _ => plain(StatusCode::NOT_FOUND, "404 page not found"),
    };
    Ok(response)
}

fn pods(api: &Api) -> Response<Body> {
    let items = api.pods.list();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    text(StatusCode::OK, "application/json", list.to_string())
}

fn metrics(api: &Api) -> Response<Body> {
    let pods = api.pods.len();
    let body = format!(
        "# HELP kubelet_active_pods The number of pods the kubelet considers active.\n\
         # TYPE kubelet_active_pods gauge\n\
         kubelet_active_pods {pods}\n"
    );
    text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(percent_decode("a%20b%2Fc%"), "a b/c%");
    }
}
