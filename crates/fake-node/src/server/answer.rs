//! From path to answer.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use coracle_clock::Timestamp;
use coracle_informer::ObjectKey;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{View, usage};

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn plain(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.into())).boxed_unsync());
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
            Some(pod) => match logs(&pod, container, query, view.clock.now()) {
                Ok(text) if flag(query, "follow") && runs(&pod, container) => {
                    followed(view, &pod, container, query, text)
                }
                Ok(text) => plain(StatusCode::OK, text),
                Err(why) => plain(StatusCode::BAD_REQUEST, why),
            },
            None => absent(&view, namespace, pod),
        },
        (&Method::GET, ["metrics", "nodes", node, "metrics", "resource"]) => match usage::resource(&view, node) {
            Some(text) => plain(StatusCode::OK, text),
            None => plain(
                StatusCode::NOT_FOUND,
                format!("node {node} is none of the fake nodes of fleet {:?}\n", view.fleet),
            ),
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
    let pod = view.pods.lister().find(namespace, name)?;
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

fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref();
    let mut all = status.into_iter().flat_map(|s| {
        let (init, main, other) = (
            &s.init_container_statuses,
            &s.container_statuses,
            &s.ephemeral_container_statuses,
        );
        init.iter().chain(main).chain(other).flatten()
    });
    all.find(|c| c.name == name)
}

/// Whether the container runs, by its configuration.
fn runs(pod: &Pod, container: &str) -> bool {
    let found = find_container(pod, container);
    found.is_some_and(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()))
}

/// The log so far; the answer stays open until the container's run has ended, which a last line tells of.
fn followed(view: Arc<View>, pod: &Pod, container: &str, query: &str, text: String) -> Response<Body> {
    let run = |pod: &Pod, name: &str| find_container(pod, name).and_then(|c| c.container_id.clone());
    let (key, name, query) = (ObjectKey::of(pod), container.to_owned(), query.to_owned());
    let follower = view.followers.join(key.clone());
    let followed = run(pod, container);
    let first = futures::stream::iter([text]);
    let last = futures::stream::once(async move {
        let now = || view.pods.lister().find(&key.namespace, &key.name);
        let goes_on = |pod: &Pod| run(pod, &name) == followed && runs(pod, &name);
        follower.until(|| !now().is_some_and(|pod| goes_on(&pod))).await;
        // Of a run that another has followed, or a pod that is gone, nothing is left to tell.
        let same = now().filter(|pod| run(pod, &name) == followed);
        let text = same.and_then(|pod| logs(&pod, &name, &query, view.clock.now()).ok());
        text.unwrap_or_default()
    });
    let lines = first.chain(last).filter(|text| std::future::ready(!text.is_empty()));
    let frames = lines.map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text))));
    let mut response = plain(StatusCode::OK, "");
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    response
}

/// The log of a container that never ran: a line that says so. `Err`: there is none, and why.
fn logs(pod: &Pod, container: &str, query: &str, now: Timestamp) -> Result<String, String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let found = find_container(pod, container);
    let previous = flag(query, "previous");
    let Some(found) = found.filter(|c| c.container_id.is_some()) else {
        return Err(format!(
            "container {container:?} in pod {name:?} is waiting to start: ContainerCreating"
        ));
    };
    if previous && found.last_state.as_ref().is_none_or(|s| s.terminated.is_none()) {
        return Err(format!(
            "previous terminated container {container:?} in pod {name:?} not found"
        ));
    }
    if value(query, "tailLines").is_some_and(|n| n == "0") {
        return Ok(String::new());
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
    Ok(line)
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

    fn said(container: &str, query: &str) -> Result<String, String> {
        logs(&pod(), container, query, "2026-01-02T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_log_says_that_it_is_a_fake_nodes() {
        let text = said("web", "").unwrap();
        assert!(
            text.starts_with("this is the fake node fake-3: nothing runs here"),
            "{text}"
        );
        assert!(
            text.ends_with("has been running since 2026-01-01T00:00:00Z\n"),
            "{text}"
        );
        let stamped = said("web", "timestamps=true").unwrap();
        assert!(stamped.starts_with("2026-01-02T00:00:00Z this is"), "{stamped}");
        assert_eq!(said("web", "limitBytes=4").unwrap(), "this");
        assert_eq!(said("web", "tailLines=0").unwrap(), "");
        assert!(said("web", "previous=true").is_err());
        assert!(said("later", "").is_err());
        assert!(said("none", "").is_err());
        assert!(runs(&pod(), "web") && !runs(&pod(), "later"));
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
