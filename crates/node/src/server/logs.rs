//! `/containerLogs/{namespace}/{pod}/{container}`.

use std::time::Duration;

use coracle_clock::Timestamp;
use coracle_runtime::{ContainerState, ContainerStatus};
use http::{Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use super::Api;
use super::router::{Body, Query, plain, streamed};
use crate::logs::{LogOptions, stream};
use crate::pod::start::sandbox::uid_of;

fn options(query: &Query, now: Timestamp) -> Result<LogOptions, String> {
    let number = |name: &str| {
        let value = query.get(name).filter(|v| !v.is_empty());
        value
            .map(|v| {
                v.parse::<u64>()
                    .map_err(|_| format!("{name}: {v:?} is not a whole number"))
            })
            .transpose()
    };
    let since = match (
        number("sinceSeconds")?,
        query.get("sinceTime").filter(|v| !v.is_empty()),
    ) {
        (Some(seconds), _) => now.checked_sub(Duration::from_secs(seconds)).ok(),
        (None, Some(time)) => Some(time.parse().map_err(|_| format!("sinceTime: {time:?} is not a time"))?),
        (None, None) => None,
    };
    let only = match query.get("stream") {
        Some("Stdout") => Some("stdout"),
        Some("Stderr") => Some("stderr"),
        _ => None,
    };
    Ok(LogOptions {
        follow: query.flag("follow"),
        tail: number("tailLines")?,
        since,
        timestamps: query.flag("timestamps"),
        limit_bytes: number("limitBytes")?,
        stream: only,
    })
}

/// The container's instances, newest first.
async fn instances(api: &Api, pod: &Pod, container: &str) -> Vec<ContainerStatus> {
    let uid = crate::mirror::runtime_uid(pod);
    let all = api.cx.runtime.containers().await;
    let mut own: Vec<_> = all
        .into_iter()
        .filter(|c| c.name == container && uid_of(&c.sandbox) == uid)
        .collect();
    own.sort_by_key(|c| std::cmp::Reverse((c.attempt, c.created_at)));
    own
}

/// Why a container that never began has no log.
fn waiting(pod: &Pod, name: &str, container: &str) -> String {
    let status = pod.status.as_ref();
    let lists = [
        status.and_then(|s| s.container_statuses.as_ref()),
        status.and_then(|s| s.init_container_statuses.as_ref()),
        status.and_then(|s| s.ephemeral_container_statuses.as_ref()),
    ];
    let found = lists.into_iter().flatten().flatten().find(|c| c.name == container);
    let Some(found) = found else {
        return format!("container {container:?} in pod {name:?} is not available");
    };
    let waiting = found.state.as_ref().and_then(|s| s.waiting.as_ref());
    let reason = match waiting.and_then(|w| w.reason.as_deref()) {
        Some("ErrImagePull" | "ImagePullBackOff") => "trying and failing to pull image",
        Some(reason) => reason,
        None => "ContainerCreating",
    };
    format!("container {container:?} in pod {name:?} is waiting to start: {reason}")
}

pub(super) async fn answer(api: &Api, namespace: &str, name: &str, container: &str, query: &Query) -> Response<Body> {
    let Some(pod) = api.pods.find(namespace, name) else {
        return plain(StatusCode::NOT_FOUND, format!("pod \"{name}\" not found\n"));
    };
    let options = match options(query, api.cx.clock.now()) {
        Ok(options) => options,
        Err(message) => return plain(StatusCode::BAD_REQUEST, message),
    };
    let list = instances(api, &pod, container).await;
    let begun = |c: &&ContainerStatus| c.state != ContainerState::Created;
    let wanted = if query.flag("previous") {
        let ended = list
            .iter()
            .skip_while(|c| c.state != ContainerState::Exited)
            .find(begun);
        // A container that waits to be restarted is its own previous instance only if there is none before it.
        let latest_runs = list.first().is_some_and(|c| c.state == ContainerState::Running);
        if latest_runs {
            ended
        } else {
            list.get(1).filter(begun).or(ended)
        }
    } else {
        list.iter().find(begun)
    };
    let Some(instance) = wanted else {
        let text = if query.flag("previous") {
            format!("previous terminated container {container:?} in pod {name:?} not found")
        } else {
            waiting(&pod, name, container)
        };
        return plain(StatusCode::BAD_REQUEST, text);
    };
    let Some(path) = instance.log_path.clone() else {
        return plain(StatusCode::NOT_FOUND, format!("container {container:?} has no log\n"));
    };
    let (out, chunks) = mpsc::channel(8);
    let (runtime, id) = (api.cx.runtime.clone(), instance.id.clone());
    tokio::spawn(stream(path, options, out, async move {
        // Removed or ended: nothing more is written.
        if let Err(error) = runtime.wait_container(&id).await {
            tracing::debug!(container = %id, %error, "a followed container is gone");
        }
    }));
    streamed(chunks)
}
