//! Starting a container: one attempt; what a failure leads to is the worker's.

pub(crate) mod config;
mod mounts;
pub(crate) mod sandbox;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use coracle_runtime::{ContainerConfig, ContainerId, ContainerState, Error as RuntimeError, SandboxId};
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::mpsc;

use super::context::Context;
use super::image;
use super::termination::run_hook;
use crate::objects::EventType;
use mounts::Volumes;

const UID_LABEL: &str = "io.kubernetes.pod.uid";

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn labels(pod: &Pod, container: Option<&str>) -> BTreeMap<String, String> {
    let meta = &pod.metadata;
    let mut labels: BTreeMap<String, String> = [
        ("io.kubernetes.pod.name", meta.name.clone()),
        ("io.kubernetes.pod.namespace", meta.namespace.clone()),
        (UID_LABEL, meta.uid.clone()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.unwrap_or_default()))
    .collect();
    if let Some(name) = container {
        labels.insert("io.kubernetes.container.name".into(), name.to_owned());
    }
    labels
}

/// Why a container did not start: the waiting reason, its message, and what kind of back-off it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartFailure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// The image could not be had.
    pub(crate) image: bool,
}

fn failure(reason: &'static str) -> impl FnOnce(String) -> StartFailure {
    move |message| StartFailure {
        reason,
        message,
        image: false,
    }
}

/// A container that a debugging one looks at.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// None: it does not run.
    pub(crate) id: Option<ContainerId>,
}

/// What a start needs besides the spec.
pub(crate) struct Start {
    pub(crate) pod: Arc<Pod>,
    pub(crate) container: Arc<Container>,
    pub(crate) attempt: u32,
    /// An earlier start was not seen to its end.
    pub(crate) again: bool,
    pub(crate) sandbox: SandboxId,
    pub(crate) handler: String,
    pub(crate) pod_ips: Vec<String>,
    pub(crate) volumes: BTreeMap<String, PathBuf>,
    /// The container whose processes this one is to see.
    pub(crate) target: Option<Target>,
    /// Told the instance's id as soon as it has one, and those of earlier ones that are removed.
    pub(crate) created: mpsc::Sender<ContainerId>,
}

/// Pulls, creates, starts and runs the postStart hook.
pub(crate) async fn container(cx: &Arc<Context>, start: Start) -> Result<ContainerId, StartFailure> {
    let Start {
        pod,
        container,
        attempt,
        again,
        sandbox,
        handler,
        pod_ips,
        volumes,
        target,
        created,
    } = start;
    let event = |kind, reason, message: String| cx.container_event(&pod, &container.name, kind, reason, message);
    let no_image = |f: image::ImageFailure| StartFailure {
        reason: f.reason,
        message: f.message,
        image: true,
    };
    let image = image::ensure(cx, &pod, &container).await.map_err(no_image)?;
    let volumes = Volumes {
        paths: volumes,
        images: image::of_volumes(cx, &pod, &container).await.map_err(no_image)?,
        recursive_readonly: cx
            .runtime
            .abilities()
            .handler(&handler)
            .is_some_and(|handler| handler.recursive_readonly),
    };
    let target = match target {
        Some(Target { name, id: None }) => Err(format!("unable to find target container {name:?}")),
        Some(Target { id, .. }) => Ok(id),
        None => Ok(None),
    };
    let config = match target {
        Ok(target) => {
            let made = config::config(cx, &pod, &container, attempt, &image, &pod_ips, &volumes).await;
            made.map(|config| ContainerConfig {
                pid_target: target,
                ..config
            })
        }
        Err(error) => Err(error),
    };
    let config = config.map_err(|message| {
        event(EventType::Warning, "Failed", format!("Error: {message}"));
        failure("CreateContainerConfigError")(message)
    })?;
    let not_created = |error: RuntimeError| {
        let message = error.chain();
        event(EventType::Warning, "Failed", format!("Error: {message}"));
        failure("CreateContainerError")(message)
    };
    if again {
        let taken_away = take_away(cx, &sandbox, &container.name, &created).await;
        taken_away.map_err(not_created)?;
    }
    let id = cx
        .runtime
        .create_container(&sandbox, config)
        .await
        .map_err(not_created)?;
    let _ = created.send(id.clone()).await;
    event(EventType::Normal, "Created", "Container created".into());
    if let Err(error) = cx.runtime.start_container(&id).await {
        let message = match &error {
            RuntimeError::CommandNotFound(text) => text.clone(),
            other => other.chain(),
        };
        event(EventType::Warning, "Failed", format!("Error: {message}"));
        return Err(failure("RunContainerError")(message));
    }
    event(EventType::Normal, "Started", "Container started".into());
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) {
        let pod_ip = pod_ips.first().cloned().unwrap_or_default();
        if let Err(message) = run_hook(cx, &id, &container, &pod_ip, hook, None).await {
            event(EventType::Warning, "FailedPostStartHook", "PostStartHook failed".into());
            event(EventType::Normal, "Killing", "FailedPostStartHook".into());
            if let Err(error) = cx.runtime.stop_container(&id, None, grace(&pod)).await {
                tracing::warn!(container = %id, %error, "a container whose postStart hook failed was not stopped");
            }
            return Err(failure("PostStartHookError")(format!(
                "PostStartHook failed: {message}"
            )));
        }
    }
    Ok(id)
}

/// Removes what earlier starts of the container made and nobody saw to its end, so that it does not run beside the next.
async fn take_away(
    cx: &Context,
    sandbox: &SandboxId,
    name: &str,
    gone: &mpsc::Sender<ContainerId>,
) -> Result<(), RuntimeError> {
    for left in cx.runtime.containers().await {
        if left.sandbox == *sandbox && left.name == name && left.state != ContainerState::Exited {
            tracing::info!(container = %left.id, "removing what a start that was given up has left");
            cx.runtime.remove_container(&left.id).await?;
            let _ = gone.send(left.id).await;
        }
    }
    Ok(())
}

fn grace(pod: &Pod) -> std::time::Duration {
    let seconds = pod
        .spec
        .as_ref()
        .and_then(|s| s.termination_grace_period_seconds)
        .unwrap_or(30);
    std::time::Duration::from_secs(seconds.max(1).unsigned_abs())
}
