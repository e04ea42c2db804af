//! A container's image: the pull policy, the secrets to pull with, and the events that tell of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use coracle_runtime::{Auth, Error as RuntimeError, ImageInfo};
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use serde::Deserialize;

use super::context::Context;
use crate::objects::EventType;

/// Why the image is not there: the waiting reason and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageFailure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// `Always`, `IfNotPresent` or `Never`, by the spec or by the tag.
fn policy(container: &Container) -> &str {
    let image = container.image.as_deref().unwrap_or_default();
    match container.image_pull_policy.as_deref().filter(|p| !p.is_empty()) {
        Some(policy) => policy,
        None if image.contains('@') => "IfNotPresent",
        None => match image.rsplit('/').next().and_then(|last| last.split_once(':')) {
            None | Some((_, "latest")) => "Always",
            Some(_) => "IfNotPresent",
        },
    }
}

/// The image, pulled if the policy asks for it.
pub(crate) async fn ensure(cx: &Context, pod: &Pod, container: &Container) -> Result<Arc<ImageInfo>, ImageFailure> {
    let image = container.image.as_deref().unwrap_or_default();
    let event = |kind, reason, message: String| cx.container_event(pod, &container.name, kind, reason, message);
    if let Err(error) = coracle_runtime::check_reference(image) {
        let message = format!("Failed to apply default image tag {image:?}: {error}");
        event(EventType::Warning, "InspectFailed", message.clone());
        event(EventType::Warning, "Failed", "Error: InvalidImageName".into());
        return Err(ImageFailure {
            reason: "InvalidImageName",
            message,
        });
    }
    let present = cx.runtime.image(image).await;
    let policy = policy(container);
    match (present, policy) {
        (Some(present), "IfNotPresent" | "Never") => {
            let text = format!("Container image {image:?} already present on machine and can be accessed by the pod");
            event(EventType::Normal, "Pulled", text);
            return Ok(present);
        }
        (None, "Never") => {
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            event(EventType::Warning, "ErrImageNeverPull", message.clone());
            return Err(ImageFailure {
                reason: "ErrImageNeverPull",
                message,
            });
        }
        _ => {}
    }
    event(EventType::Normal, "Pulling", format!("Pulling image {image:?}"));
    let started = cx.clock.instant();
    let mut result = Err(RuntimeError::ImageNotFound {
        reference: image.to_owned(),
    });
    for auth in credentials(cx, pod, image).await {
        result = cx.runtime.pull_image(image, auth, None).await;
        if !matches!(result, Err(RuntimeError::RegistryUnauthorized { .. })) {
            break;
        }
    }
    match result {
        Ok(id) => {
            let took = cx.clock.instant().duration_since(started);
            let info = cx.runtime.image(id.as_str()).await.ok_or_else(|| ImageFailure {
                reason: "ErrImagePull",
                message: format!("image {image:?} was removed right after it was pulled"),
            })?;
            let text = format!(
                "Successfully pulled image {image:?} in {0} ({0} including waiting). Image size: {1} bytes.",
                shown(took),
                info.size
            );
            event(EventType::Normal, "Pulled", text);
            Ok(info)
        }
        Err(error) => {
            let cause = error.chain();
            event(
                EventType::Warning,
                "Failed",
                format!("Failed to pull image {image:?}: {cause}"),
            );
            event(EventType::Warning, "Failed", "Error: ErrImagePull".into());
            let reason = match error {
                RuntimeError::RegistryUnavailable { .. } => "RegistryUnavailable",
                _ => "ErrImagePull",
            };
            let message = if reason == "ErrImagePull" {
                cause
            } else {
                format!("{reason}: {cause}")
            };
            Err(ImageFailure {
                reason: "ErrImagePull",
                message,
            })
        }
    }
}

/// The images that the container mounts as volumes, by volume, pulled where their own policies ask for it.
pub(crate) async fn of_volumes(
    cx: &Context,
    pod: &Pod,
    container: &Container,
) -> Result<BTreeMap<String, Arc<ImageInfo>>, ImageFailure> {
    let mut images = BTreeMap::new();
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    for (volume, source) in volumes.filter_map(|v| Some((v, v.image.as_ref()?))) {
        if container.volume_mounts.iter().flatten().any(|m| m.name == volume.name) {
            let wanted = Container {
                name: container.name.clone(),
                image: source.reference.clone(),
                image_pull_policy: source.pull_policy.clone(),
                ..Container::default()
            };
            images.insert(volume.name.clone(), ensure(cx, pod, &wanted).await?);
        }
    }
    Ok(images)
}

/// A duration as upstream's events show it: `345ms`, `1.234s`.
fn shown(took: std::time::Duration) -> String {
    match took.as_secs() {
        0 => format!("{}ms", took.as_millis()),
        _ => format!("{}s", (took.as_secs_f64() * 1000.0).round() / 1000.0),
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    /// Sent as it is, where the registry gives such.
    #[serde(default, rename = "registrytoken")]
    registry_token: String,
}

/// Ways to identify to the image's registry, by the pod's pull secrets; anonymous is the last.
async fn credentials(cx: &Context, pod: &Pod, image: &str) -> Vec<Option<Auth>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    for reference in pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()) {
        match cx.objects.secret(namespace, &reference.name).await {
            Ok(Some(secret)) => found.extend(matching(of_secret(&secret), image).into_iter().map(Some)),
            Ok(None) => {
                let text = format!(
                    "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                    reference.name
                );
                cx.event(pod, EventType::Warning, "FailedToRetrieveImagePullSecret", text);
            }
            Err(error) => tracing::warn!(%error, secret = reference.name, "image pull secret not read"),
        }
    }
    for path in node_configs(&cx.data_dir) {
        if let Ok(text) = std::fs::read(&path) {
            match serde_json::from_slice::<DockerConfig>(&text) {
                Ok(config) => found.extend(matching(config.auths, image).into_iter().map(Some)),
                Err(error) => tracing::warn!(path = %path.display(), %error, "not a docker configuration"),
            }
        }
    }
    found.push(None);
    found
}

/// The node's own credentials: in the agent's directory, as upstream has it, then where `docker login` puts them.
fn node_configs(data_dir: &Path) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker/config.json"));
    std::iter::once(data_dir.join("config.json")).chain(home).collect()
}

/// What a pull secret holds, in either of its formats.
fn of_secret(secret: &Secret) -> BTreeMap<String, DockerAuth> {
    let data = secret.data.as_ref();
    if let Some(bytes) = data.and_then(|d| d.get(".dockerconfigjson")) {
        serde_json::from_slice::<DockerConfig>(&bytes.0)
            .map(|c| c.auths)
            .unwrap_or_default()
    } else if let Some(bytes) = data.and_then(|d| d.get(".dockercfg")) {
        serde_json::from_slice(&bytes.0).unwrap_or_default()
    } else {
        BTreeMap::new()
    }
}

/// The entries that are meant for the image's registry, the most specific first.
fn matching(auths: BTreeMap<String, DockerAuth>, image: &str) -> Vec<Auth> {
    let wanted = normal(image);
    let mut matches: Vec<(String, DockerAuth)> = auths
        .into_iter()
        .map(|(registry, auth)| (registry_of(&registry), auth))
        .filter(|(registry, _)| is_for(registry, &wanted))
        .collect();
    matches.sort_by_key(|(registry, _)| std::cmp::Reverse(registry.len()));
    matches.into_iter().filter_map(|(_, auth)| to_auth(auth)).collect()
}

/// `https://index.docker.io/v1/` as `docker.io`.
fn registry_of(key: &str) -> String {
    let key = key
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let key = key.trim_end_matches("/v1").trim_end_matches("/v2");
    match key.strip_prefix("index.docker.io") {
        Some(rest) => format!("docker.io{rest}"),
        None => key.to_owned(),
    }
}

/// Host names match part by part, `*` any text within one; the port is the same; the path is a beginning.
fn is_for(registry: &str, image: &str) -> bool {
    let (host, path) = registry.split_once('/').unwrap_or((registry, ""));
    let (image_host, rest) = image.split_once('/').unwrap_or((image, ""));
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let (image_name, image_port) = image_host.split_once(':').unwrap_or((image_host, ""));
    let parts: Vec<&str> = name.split('.').collect();
    let image_parts: Vec<&str> = image_name.split('.').collect();
    let hosts = parts.len() == image_parts.len() && parts.iter().zip(&image_parts).all(|(p, i)| glob(p, i));
    let below =
        path.is_empty() || rest == path || rest.strip_prefix(path).is_some_and(|r| r.starts_with(['/', ':', '@']));
    hosts && port == image_port && below
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text
            .strip_prefix(start)
            .is_some_and(|text| (0..=text.len()).any(|at| text.is_char_boundary(at) && glob(rest, &text[at..]))),
    }
}

fn to_auth(auth: DockerAuth) -> Option<Auth> {
    if !auth.registry_token.is_empty() {
        return Some(Auth::Bearer(auth.registry_token));
    }
    if !auth.username.is_empty() {
        let DockerAuth { username, password, .. } = auth;
        return Some(Auth::Basic { username, password });
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(auth.auth).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(Auth::Basic {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

/// The image's full name as it is on this node, or else as the spec has it.
pub(crate) fn shown_name(wanted: &str, info: &ImageInfo) -> String {
    let full = normal(wanted);
    let tagged = format!("{full}:latest");
    let found = info.repo_tags.iter().find(|tag| **tag == full || **tag == tagged);
    found.cloned().unwrap_or_else(|| wanted.to_owned())
}

/// The image's name with its registry.
fn normal(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_policy_follows_from_the_tag() {
        for (image, expected) in [
            ("busybox", "Always"),
            ("busybox:latest", "Always"),
            ("busybox:1.36", "IfNotPresent"),
            ("localhost:5000/busybox", "Always"),
            ("busybox@sha256:abc", "IfNotPresent"),
        ] {
            let container = Container {
                image: Some(image.into()),
                ..Container::default()
            };
            assert_eq!(policy(&container), expected, "{image}");
        }
    }

    #[test]
    fn pull_secrets_match_their_registry() {
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpw"},
            "registry.example:5000": {"username": "a", "password": "b"}}});
        let data = base64::engine::general_purpose::STANDARD.encode(config.to_string());
        let secret: Secret = serde_json::from_value(json!({"data": {".dockerconfigjson": data}})).unwrap();
        let user = |image| match matching(of_secret(&secret), image).as_slice() {
            [Auth::Basic { username, .. }] => username.clone(),
            _ => String::new(),
        };
        assert_eq!(user("busybox"), "u");
        assert_eq!(user("registry.example:5000/x/y:1"), "a");
        assert_eq!(user("other.example/x"), "");
    }

    #[test]
    fn a_registrys_name_may_hold_wildcards_and_a_path() {
        for (registry, image, fits) in [
            ("*.example.io", "a.example.io/x:1", true),
            ("*.example.io", "a.b.example.io/x", false),
            ("reg*.example.io:5000", "registry.example.io:5000/x", true),
            ("reg*.example.io:5000", "registry.example.io/x", false),
            ("registry.example/team", "registry.example/team/app:1", true),
            ("registry.example/team", "registry.example/teams/app", false),
            ("registry.example/team/app", "registry.example/team/app@sha256:0", true),
        ] {
            assert_eq!(is_for(registry, image), fits, "{registry} {image}");
        }
        let auths = json!({"registry.example": {"username": "all"}, "registry.example/team": {"username": "team"}});
        let found = matching(serde_json::from_value(auths).unwrap(), "registry.example/team/app");
        assert!(
            matches!(&found[0], Auth::Basic { username, .. } if username == "team"),
            "{found:?}"
        );
        assert_eq!(found.len(), 2);
    }
}
