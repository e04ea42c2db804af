//! From path to answer.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use coracle_clock::Timestamp;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::View;

type Body = Full<Bytes>;

fn plain(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.into())));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// Answers one request of a caller who may call, or may not.
pub(super) async fn answer(
    view: Arc<View>,
    request: Request<Incoming>,
    may: bool,
) -> Result<Response<Body>, Infallible> {
    if !may {
        return Ok(plain(StatusCode::FORBIDDEN, "Forbidden"));
    }
    let query = request.uri().query().unwrap_or_default();
    let parts: Vec<&str> = request.uri().path().split('/').filter(|p| !p.is_empty()).collect();
    let response = match (request.method(), parts.as_slice()) {
        (&Method::GET, ["healthz"]) => plain(StatusCode::OK, "ok"),
        (&Method::GET, ["containerLogs", namespace, pod, container]) => match find(&view, namespace, pod) {
            Some(pod) => logs(&pod, container, query, view.clock.now()),
            None => absent(&view, namespace, pod),
        },
        (_, [verb @ ("exec" | "attach" | "portForward" | "run"), namespace, pod, ..]) => {
            match find(&view, namespace, pod) {
                Some(pod) => plain(StatusCode::NOT_IMPLEMENTED, refusal(&pod, verb)),
                None => absent(&view, namespace, pod),
            }
        }
        _ => plain(StatusCode::NOT_FOUND, "404 page not found"),
    };
    Ok(response)
}

/// A pod on one of this fleet's nodes.
fn find(view: &View, namespace: &str, name: &str) -> Option<Arc<Pod>> {
    let pod = view.pods.find(namespace, name)?;
    view.nodes.find("", node_of(&pod))?;
    Some(pod)
}

fn absent(view: &View, namespace: &str, name: &str) -> Response<Body> {
    let text = format!(
        "pod {namespace}/{name} is on none of the fake nodes of fleet {:?}\n",
        view.fleet
    );
    plain(StatusCode::NOT_FOUND, text)
}

fn node_of(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .unwrap_or_default()
}

/// Why there is nothing to connect to.
fn refusal(pod: &Pod, verb: &str) -> String {
    let why = match verb {
        "exec" | "run" => "there is no process to run a command beside",
        "attach" => "there is no process to attach to",
        _ => "nothing listens on its ports",
    };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    format!("pod {name} is on the fake node {}: {why}\n", node_of(pod))
}

/// The log of a container that never ran: a line that says so.
fn logs(pod: &Pod, container: &str, query: &str, now: Timestamp) -> Response<Body> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref();
    let mut all = status.into_iter().flat_map(|s| {
        let (init, main, other) = (
            &s.init_container_statuses,
            &s.container_statuses,
            &s.ephemeral_container_statuses,
        );
        init.iter().chain(main).chain(other).flatten()
    });
    let found = all.find(|c| c.name == container);
    let previous = flag(query, "previous");
    let Some(found) = found.filter(|c| c.container_id.is_some()) else {
        let text = format!("container {container:?} in pod {name:?} is waiting to start: ContainerCreating");
        return plain(StatusCode::BAD_REQUEST, text);
    };
    if previous && found.last_state.as_ref().is_none_or(|s| s.terminated.is_none()) {
        let text = format!("previous terminated container {container:?} in pod {name:?} not found");
        return plain(StatusCode::BAD_REQUEST, text);
    }
    if value(query, "tailLines").is_some_and(|n| n == "0") {
        return plain(StatusCode::OK, "");
    }
    let mut line = format!(
        "this is the fake node {}: nothing runs here and nothing was logged; by its configuration container {container} of \
         pod {name} {}\n",
        node_of(pod),
        story(found, previous)
    );
    if flag(query, "timestamps") {
        line = format!("{now} {line}");
    }
    if let Some(limit) = value(query, "limitBytes").and_then(|n| n.parse().ok()) {
        // The line may name things that are no ASCII; a cut within a character is none.
        let end = (0..=line.len().min(limit)).rev().find(|at| line.is_char_boundary(*at));
        line.truncate(end.unwrap_or(0));
    }
    plain(StatusCode::OK, line)
}

fn story(container: &ContainerStatus, previous: bool) -> String {
    let state = if previous {
        &container.last_state
    } else {
        &container.state
    };
    let Some(state) = state else {
        return "has no state".into();
    };
    let time = |t: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        t.as_ref().map_or_else(String::new, |t| t.0.to_string())
    };
    if let Some(running) = &state.running {
        return format!("has been running since {}", time(&running.started_at));
    }
    if let Some(ended) = &state.terminated {
        return format!(
            "ended with exit code {} at {}",
            ended.exit_code,
            time(&ended.finished_at)
        );
    }
    "waits to be started again".into()
}

fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(k, _)| *k == name).map(|(_, v)| v)
}

fn flag(query: &str, name: &str) -> bool {
    value(query, name).is_some_and(|v| matches!(v, "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use serde_json::json;

    fn pod() -> Pod {
        let value = json!({
            "metadata": {"name": "web-1", "namespace": "default"},
            "spec": {"nodeName": "fake-3", "containers": [{"name": "web"}, {"name": "later"}]},
            "status": {"containerStatuses": [
                {"name": "web", "containerID": "fake://1", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                 "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
                {"name": "later", "image": "", "imageID": "", "ready": false, "restartCount": 0},
            ]},
        });
        serde_json::from_value(value).unwrap()
    }

    async fn said(container: &str, query: &str) -> (u16, String) {
        let response = logs(&pod(), container, query, "2026-01-02T00:00:00Z".parse().unwrap());
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_log_says_that_it_is_a_fake_nodes() {
        let (status, text) = said("web", "follow=true").await;
        assert_eq!(status, 200);
        assert!(
            text.starts_with("this is the fake node fake-3: nothing runs here"),
            "{text}"
        );
        assert!(
            text.ends_with("has been running since 2026-01-01T00:00:00Z\n"),
            "{text}"
        );
        assert!(
            said("web", "timestamps=true")
                .await
                .1
                .starts_with("2026-01-02T00:00:00Z this is")
        );
        assert_eq!(said("web", "limitBytes=4").await.1, "this");
        assert_eq!(said("web", "tailLines=0").await, (200, String::new()));
        assert_eq!(said("web", "previous=true").await.0, 400);
        assert_eq!(said("later", "").await.0, 400);
        assert_eq!(said("none", "").await.0, 400);
    }

    #[test]
    fn what_needs_a_process_is_refused_with_the_reason() {
        assert_eq!(
            refusal(&pod(), "exec"),
            "pod web-1 is on the fake node fake-3: there is no process to run a command beside\n"
        );
        assert!(refusal(&pod(), "portForward").contains("nothing listens"));
    }
}
