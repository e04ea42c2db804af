//! What the runtime is told of a container: from its spec, its environment's sources and its image.

use std::collections::BTreeMap;

use coracle_runtime::{ContainerConfig, ImageInfo};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::json;

use super::labels;
use super::mounts::{self, Volumes};
use crate::objects::EventType;
use crate::pod::context::Context;
use crate::pod::env::{self, Sources};
use crate::pod::expansion::expand;
use crate::pod::plan::{HASH_ANNOTATION, container_hash};
use crate::pod::security::{self, ImageUser};
use crate::pod::{env_file, files, image, resources};
use crate::volume;

/// The annotation with the file that holds an instance's termination message.
pub(crate) const MESSAGE_ANNOTATION: &str = "io.coracle.container.termination-message";
/// The annotation with the policy for termination messages.
pub(crate) const MESSAGE_POLICY_ANNOTATION: &str = "io.kubernetes.container.terminationMessagePolicy";
/// The annotations with the image as statuses show it: its name, and its digest or id.
pub(crate) const IMAGE_ANNOTATION: &str = "io.coracle.container.image";
pub(crate) const IMAGE_ID_ANNOTATION: &str = "io.coracle.container.image-id";
/// The annotation with the same of the images that are its volumes, by volume.
pub(crate) const VOLUME_IMAGES_ANNOTATION: &str = "io.coracle.container.volume-images";

/// An image as statuses show which one it is.
fn shown_id(image: &ImageInfo) -> &str {
    image.repo_digests.first().map_or(image.id.as_str(), String::as_str)
}

async fn sources(cx: &Context, pod: &Pod, container: &Container, volumes: &Volumes) -> Result<Sources, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (maps, secrets) = env::referenced(container);
    let mut sources = Sources {
        services: cx.objects.services(namespace),
        ..Sources::default()
    };
    for name in maps {
        if let Some(map) = cx
            .objects
            .config_map(namespace, &name)
            .await
            .map_err(|e| e.to_string())?
        {
            sources.config_maps.insert(name, map);
        }
    }
    for name in secrets {
        if let Some(secret) = cx.objects.secret(namespace, &name).await.map_err(|e| e.to_string())? {
            sources.secrets.insert(name, secret);
        }
    }
    let sourced = container.env.iter().flatten().filter_map(|e| e.value_from.as_ref());
    for file in sourced.filter_map(|source| source.file_key_ref.as_ref()) {
        let volume = volumes.paths.get(&file.volume_name);
        let volume = volume.ok_or_else(|| format!("cannot find the volume {:?} of an env file", file.volume_name))?;
        if let Some(variables) = env_file::read(volume, &file.path)? {
            let at = (file.volume_name.clone(), file.path.clone());
            sources.files.insert(at, variables);
        }
    }
    Ok(sources)
}

pub(super) async fn config(
    cx: &Context,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    image: &ImageInfo,
    pod_ips: &[String],
    volumes: &Volumes,
) -> Result<ContainerConfig, String> {
    let node = cx.node();
    let sources = sources(cx, pod, container, volumes).await?;
    let environment = env::build(pod, container, &sources, pod_ips, &node)?;
    for skipped in &environment.skipped {
        cx.container_event(
            pod,
            &container.name,
            EventType::Warning,
            "InvalidEnvironmentVariableNames",
            skipped.clone(),
        );
    }
    let (uid, name) = image.user();
    let security = security::of_container(pod, container, ImageUser { uid, name }, &cx.seccomp_root())?;
    let dir = cx.pod_dir(super::uid(pod));
    let message_file = mounts::message_file(&dir, &container.name, attempt)?;
    let read_only = |name: &str| volume::is_read_only(pod, name);
    let mut mounts = mounts::mounts(container, &dir, &message_file, &environment, volumes, read_only)?;
    mounts.extend(mounts::image_mounts(container, &volumes.images, &environment)?);
    let (hostname, _) = files::hostname(pod, &cx.hostname, &cx.dns.domain)?;
    let expanded = |texts: &Option<Vec<String>>| {
        texts
            .iter()
            .flatten()
            .map(|text| expand(text, |name| environment.get(name)))
            .collect()
    };
    let policy = container
        .termination_message_policy
        .clone()
        .unwrap_or_else(|| "File".into());
    let annotations = [
        (HASH_ANNOTATION, container_hash(container)),
        (MESSAGE_ANNOTATION, message_file.to_string_lossy().into_owned()),
        (MESSAGE_POLICY_ANNOTATION, policy),
        (
            IMAGE_ANNOTATION,
            image::shown_name(container.image.as_deref().unwrap_or_default(), image),
        ),
        (IMAGE_ID_ANNOTATION, shown_id(image).to_owned()),
    ];
    let of_volumes: BTreeMap<&str, &str> = volumes
        .images
        .iter()
        .map(|(volume, image)| (volume.as_str(), shown_id(image)))
        .collect();
    let of_volumes = (!of_volumes.is_empty()).then(|| (VOLUME_IMAGES_ANNOTATION, json!(of_volumes).to_string()));
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt,
        image: image.id.as_str().to_owned(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        env: std::iter::once(("HOSTNAME".to_owned(), hostname))
            .chain(environment.variables.iter().cloned())
            .collect(),
        working_dir: container.working_dir.clone().filter(|d| !d.is_empty()),
        security,
        mounts,
        devices: mounts::devices(container, &volumes.paths, read_only)?,
        resources: resources::of_container(pod, container, cx.memory_capacity),
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        log_path: format!("{}/{attempt}.log", container.name).into(),
        pid_target: None,
        stop_signal: container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()),
        labels: labels(pod, Some(&container.name)),
        annotations: annotations
            .into_iter()
            .chain(of_volumes)
            .map(|(k, v)| (k.to_owned(), v))
            .collect(),
    })
}
