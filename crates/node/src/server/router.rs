//! From path to answer.

use bytes::Bytes;
use coracle_runtime::{ContainerState, SandboxState};
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Api, logs};
use crate::{stats, streaming};

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

pub(crate) fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}

/// A whole answer.
pub(crate) fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

pub(crate) fn plain(status: StatusCode, body: impl Into<String>) -> Response<Body> {
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
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty());
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// Every value of a parameter that may come more than once.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
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

/// Answers one request of a caller who may make it.
pub(super) async fn answer(api: &Api, request: Request<Incoming>) -> Response<Body> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let path = request.uri().path().to_owned();
    let parts: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(percent_decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    let stream = matches!(*request.method(), Method::GET | Method::POST);
    match parts.as_slice() {
        ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] if read => plain(StatusCode::OK, "ok"),
        ["pods"] if read => pods(api),
        ["runningpods"] if read => running_pods(api).await,
        ["configz"] if read => configz(api),
        ["metrics"] if read => stats::agent_metrics(api).await,
        ["metrics", "resource"] if read => stats::resource_metrics(api).await,
        ["metrics", "cadvisor"] if read => stats::cadvisor_metrics(api).await,
        ["stats", "summary"] if read => stats::summary(api, &query).await,
        ["containerLogs", namespace, pod, container] if read => {
            logs::answer(api, namespace, pod, container, &query).await
        }
        ["exec", namespace, pod, container] if stream => {
            streaming::exec(api, request, [namespace, pod, container], None, &query).await
        }
        ["exec", namespace, pod, uid, container] if stream => {
            streaming::exec(api, request, [namespace, pod, container], Some(uid), &query).await
        }
        ["attach", namespace, pod, container] if stream => {
            streaming::attach(api, request, [namespace, pod, container], None, &query).await
        }
        ["attach", namespace, pod, uid, container] if stream => {
            streaming::attach(api, request, [namespace, pod, container], Some(uid), &query).await
        }
        ["portForward", namespace, pod] if stream => {
            streaming::port_forward(api, request, namespace, pod, None, &query).await
        }
        ["portForward", namespace, pod, uid] if stream => {
            streaming::port_forward(api, request, namespace, pod, Some(uid), &query).await
        }
        _ => plain(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

fn list(items: &impl serde::Serialize) -> Response<Body> {
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    text(StatusCode::OK, "application/json", list.to_string())
}

fn pods(api: &Api) -> Response<Body> {
    list(&api.pods.list())
}

/// The pods as the runtime knows them, which may be others than the API's.
async fn running_pods(api: &Api) -> Response<Body> {
    let containers = api.cx.runtime.containers().await;
    let sandboxes = api.cx.runtime.sandboxes().await;
    let ready = sandboxes.iter().filter(|s| s.state == SandboxState::Ready);
    let items: Vec<_> = ready
        .map(|sandbox| {
            let own = containers.iter().filter(|c| c.sandbox == sandbox.id);
            let running = own.filter(|c| c.state == ContainerState::Running);
            let containers: Vec<_> = running.map(|c| json!({"name": c.name, "image": c.image})).collect();
            let config = &sandbox.config;
            json!({
                "metadata": {"name": config.name, "namespace": config.namespace, "uid": config.pod_uid},
                "spec": {"containers": containers},
                "status": {},
            })
        })
        .collect();
    list(&items)
}

/// What of the agent's configuration upstream has a name for.
fn configz(api: &Api) -> Response<Body> {
    let cx = &api.cx;
    let mut config = json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}},
        "authorization": {"mode": "Webhook"},
        "clusterDomain": cx.dns.domain,
        "clusterDNS": cx.dns.servers,
        "cgroupRoot": cx.cgroup_root,
    }});
    if let (Some(config), Value::Object(settings)) = (config["kubeletconfig"].as_object_mut(), cx.settings.fields()) {
        config.extend(settings);
    }
    text(StatusCode::OK, "application/json", config.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(percent_decode("a%20b%2Fc%"), "a b/c%");
    }
}
